//! Records that the hooks write to the ring buffer.
//!
//! Every record begins with its [`Kind`]; a reader counts and skips kinds that it does not know.
//! The record of a transition is a [`Step`]. The first transition of a socket ([`Opening`]), the one
//! to ESTABLISHED ([`Established`]) and the last one ([`Closing`]) have further fields after the
//! step. The addresses follow at the end: [`AddressesV6`] if [`Flags::IPV6`] is set, otherwise
//! [`AddressesV4`]. So most records fit into one cache line.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The kind of a record: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Any other transition: [`Step`].
    Step = 0,
    /// A transition to SYN_SENT, SYN_RECV or LISTEN: [`Opening`].
    Opening = 1,
    /// A transition to CLOSE: [`Closing`].
    Closing = 2,
    /// The kernel accepted a reset for a socket: [`Reset`].
    ResetReceived = 3,
    /// The kernel sent a reset for a socket: [`Reset`].
    ResetSent = 4,
    /// A socket that is about to close was to get a TIME_WAIT socket: [`TimeWaitEntry`].
    TimeWaitEntry = 5,
    /// A TIME_WAIT socket in substate FIN_WAIT2 entered TIME_WAIT: [`TimeWaitChange`].
    FinWait2ToTimeWait = 6,
    /// A TIME_WAIT socket was freed: [`TimeWaitChange`].
    TimeWaitExit = 7,
    /// accept() returned a connection: [`Accepted`].
    Accepted = 8,
    /// A transition to ESTABLISHED: [`Established`].
    Established = 9,
}

impl Kind {
    /// The number of kinds.
    pub const COUNT: usize = Self::ALL.len();
    /// All kinds in numerical order.
    pub const ALL: [Self; 10] = [
        Self::Step,
        Self::Opening,
        Self::Closing,
        Self::ResetReceived,
        Self::ResetSent,
        Self::TimeWaitEntry,
        Self::FinWait2ToTimeWait,
        Self::TimeWaitExit,
        Self::Accepted,
        Self::Established,
    ];

    /// The kind with this number; `None` if this version does not know it.
    pub const fn from_number(number: u8) -> Option<Self> {
        // `get` is not const yet.
        if (number as usize) < Self::COUNT { Some(Self::ALL[number as usize]) } else { None }
    }

    /// The name in outputs that list losses by kind.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Opening => "opening",
            Self::Closing => "closing",
            Self::ResetReceived => "reset_received",
            Self::ResetSent => "reset_sent",
            Self::TimeWaitEntry => "time_wait_entry",
            Self::FinWait2ToTimeWait => "time_wait_turn",
            Self::TimeWaitExit => "time_wait_exit",
            Self::Accepted => "accepted",
            Self::Established => "established",
        }
    }

    /// Whether the record reports a transition between two TCP states.
    pub const fn is_transition(self) -> bool {
        match self {
            Self::Step | Self::Opening | Self::Established | Self::Closing => true,
            Self::ResetReceived
            | Self::ResetSent
            | Self::TimeWaitEntry
            | Self::FinWait2ToTimeWait
            | Self::TimeWaitExit
            | Self::Accepted => false,
        }
    }
}

/// Facts of one bit each about a socket, at the time of the record. [`Closing`] and
/// [`ScanSocket`](crate::scan::ScanSocket) have all flags except as noted; other records have only
/// the flags whose comments say so.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Flags(pub u32);

impl Flags {
    /// The addresses are IPv6 (an IPv4-mapped one included). In every record.
    pub const IPV6: Self = Self(1);
    /// `SOCK_DEAD`: no process has the socket open any more.
    pub const DEAD: Self = Self(1 << 1);
    /// `SOCK_DONE`: the peer's FIN has been received.
    pub const FIN_RECEIVED: Self = Self(1 << 2);
    /// `SO_LINGER` with a time of zero: close() sends a reset.
    pub const LINGER0: Self = Self(1 << 3);
    /// `sk_socket` is set: the socket has been accepted or was created by socket().
    pub const HAS_SOCKET: Self = Self(1 << 4);
    /// `RCV_SHUTDOWN`.
    pub const SHUT_READ: Self = Self(1 << 5);
    /// `SEND_SHUTDOWN`.
    pub const SHUT_WRITE: Self = Self(1 << 6);
    /// `TCP_REPAIR` is on (checkpoint/restore moves the connection). Also at →SYN_SENT and
    /// →ESTABLISHED.
    pub const REPAIR: Self = Self(1 << 7);
    /// The listener defers accept() until data arrives (`TCP_DEFER_ACCEPT`). Of listeners, and up
    /// to 6.14 of their children in [`Opening`].
    pub const DEFER_ACCEPT: Self = Self(1 << 8);
    /// The namespace has as many TIME_WAIT sockets as `tcp_max_tw_buckets` allows. If the closing
    /// connection was to enter TIME_WAIT, its own is the last of them or found no room.
    pub const TIME_WAIT_FULL: Self = Self(1 << 9);
    /// `TCP_LINGER2` is negative: a reset ends FIN_WAIT2 at once.
    pub const LINGER2_NEGATIVE: Self = Self(1 << 10);
    /// `packets_out`: segments have been sent and not yet acknowledged.
    pub const UNACKNOWLEDGED: Self = Self(1 << 11);
    /// [`Step::rtt_us`] is the time since the first SYN-ACK, not a smoothed round-trip time. At
    /// →ESTABLISHED only.
    pub const SINCE_FIRST_SYNACK: Self = Self(1 << 12);
    /// The process [`Step::pid`] made this transition by a system call on its socket. In every
    /// record of a transition.
    pub const BY_OWNER: Self = Self(1 << 13);
    /// There is data that was never sent. At →CLOSE with an error only.
    pub const UNSENT: Self = Self(1 << 14);
    /// The peer's receive window is zero. At →CLOSE with an error only.
    pub const ZERO_WINDOW: Self = Self(1 << 15);
    /// `TCP_USER_TIMEOUT` is set. At →CLOSE with an error only.
    pub const USER_TIMEOUT: Self = Self(1 << 16);
    /// The SYN asked for a Fast Open cookie or carried data. At →ESTABLISHED after a retransmission
    /// only.
    pub const FAST_OPEN: Self = Self(1 << 17);
    /// The socket is a subflow of an MPTCP connection, or a listener for them. Also at →ESTABLISHED
    /// and in [`Opening`], where a listener's child still has the listener's flag: a client without
    /// MPTCP loses it before →ESTABLISHED.
    pub const MPTCP: Self = Self(1 << 18);
    /// The listener has sent SYN cookies, or the kernel's BTF does not tell. In [`Opening`] of a
    /// listener's child only; a listener with [`Flags::REUSEPORT`] does not know it.
    pub const COOKIES_SENT: Self = Self(1 << 19);
    /// `SO_REUSEPORT` is set. Of listeners, and in [`Opening`] of their children.
    pub const REUSEPORT: Self = Self(1 << 20);
    /// A later program of the main hook has written the record: either the kernel skipped the first one,
    /// or this repeats its record. In records of transitions.
    pub const RECOVERED: Self = Self(1 << 21);

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The union of both sets of flags.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A transition of a socket: the record of [`Kind::Step`], and the head of [`Opening`] and
/// [`Closing`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Step {
    /// A number of [`Kind`].
    pub kind: u8,
    /// The state that the socket leaves, by the kernel's number.
    pub old: u8,
    /// The state that the socket enters.
    pub new: u8,
    /// `sk_err`: an errno, or 0.
    pub err: u8,
    /// See [`Flags`].
    pub flags: Flags,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    /// The socket's kernel address; reused by later sockets.
    pub sock: u64,
    /// The network namespace: the lower half of its cookie, or its inode number on kernels whose
    /// namespaces have no cookie (before 5.14).
    pub netns: u32,
    /// The process id (thread group) if [`Flags::BY_OWNER`], otherwise 0.
    pub pid: u32,
    /// The local port; 0 if none has been chosen yet.
    pub local_port: u16,
    /// The peer's port; 0 if the record cannot know it (a listener's child in [`Opening`] up to
    /// 6.14).
    pub remote_port: u16,
    /// Smoothed round-trip time, microseconds; at →ESTABLISHED that of the handshake (see
    /// [`Flags::SINCE_FIRST_SYNACK`]).
    pub rtt_us: u32,
    /// `sk_err_soft` at →CLOSE: the errno of the last ICMP error that did not close the connection,
    /// or 0. 0 in other records.
    pub err_soft: u8,
    /// `icsk_retransmits` at →CLOSE: consecutive expiries of the retransmission timer. 0 in other
    /// records.
    pub retransmits: u8,
    /// `icsk_probes_out` at →CLOSE: unanswered keepalive or zero-window probes. 0 in other records.
    pub probes: u8,
    /// Zero.
    pub reserved: u8,
    /// `total_retrans`: segments retransmitted; at →ESTABLISHED those of the SYN or SYN-ACK.
    pub total_retransmits: u32,
}

/// The addresses of an IPv4 socket.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct AddressesV4 {
    /// The local address.
    pub local: [u8; 4],
    /// The peer's address.
    pub remote: [u8; 4],
}

/// The addresses of an IPv6 socket; they may be IPv4-mapped.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct AddressesV6 {
    /// The local address.
    pub local: [u8; 16],
    /// The peer's address.
    pub remote: [u8; 16],
}

/// The first record of a connection or a listener.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Opening {
    /// The transition.
    pub step: Step,
    /// Id of the socket's cgroup, 0 if unknown.
    pub cgroup: u64,
    /// `sk_ack_backlog`: connections waiting for accept(), of the listener that created this child.
    /// 0 at →LISTEN.
    pub accept_queue: u32,
    /// `sk_max_ack_backlog`: the limit of that queue.
    pub accept_limit: u32,
    /// The name of the owner's main thread, NUL-padded; zeros unless [`Flags::BY_OWNER`].
    pub comm: [u8; 16],
    /// At →SYN_SENT of an MPTCP subflow, the kernel address of the connection that it belongs to
    /// (`mptcp_subflow_context.conn`). At LISTEN→SYN_RECV, the kernel address of the listener. 0
    /// otherwise, or if unknown.
    pub parent: u64,
    /// `sk_drops`: everything that the socket has dropped before it entered LISTEN, otherwise 0.
    pub drops: u32,
    /// Inode number of the network namespace.
    pub netns_inode: u32,
    /// The ports that connect() may choose from: the lowest in the lower half and the highest in the
    /// upper half (`IP_LOCAL_PORT_RANGE`); 0 if the namespace's setting applies. At →SYN_SENT only.
    pub port_range: u32,
    /// At LISTEN→SYN_RECV, the listener's port, which is not the connection's behind a transparent
    /// proxy (TPROXY, `BPF_PROG_TYPE_SK_LOOKUP`). 0 otherwise, or if unknown.
    pub listener_port: u16,
    /// Zero.
    pub reserved: u16,
}

/// The record of a completed handshake.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Established {
    /// The transition.
    pub step: Step,
    /// Of an MPTCP subflow, the kernel address of the connection that it belongs to
    /// (`mptcp_subflow_context.conn`), otherwise 0.
    pub mptcp: u64,
    /// `snd_una`: this end's initial sequence number plus 1.
    pub snd_una: u32,
    /// `rcv_nxt`: the peer's initial sequence number plus 1.
    pub rcv_nxt: u32,
}

/// The last record of a connection or a listener.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Closing {
    /// The transition.
    pub step: Step,
    /// `bytes_acked`: sequence space the peer acknowledged (SYN and FIN count one each).
    pub bytes_acked: u64,
    /// `bytes_received`: sequence space received (a FIN counts one).
    pub bytes_received: u64,
    /// `bytes_retrans`: bytes sent more than once.
    pub bytes_retransmitted: u64,
    /// Bytes received in order that the application did not read; 0 of a listener.
    pub unread: u32,
    /// Milliseconds since the last segment was received; [`u32::MAX`] if unknown.
    pub idle_ms: u32,
    /// `sk_drops` of a listener: everything that it has dropped. Otherwise 0.
    pub drops: u32,
    /// The smallest recent round-trip time (`rtt_min`), microseconds; [`u32::MAX`] if none was
    /// measured.
    pub min_rtt_us: u32,
    /// `data_segs_out`: segments with data sent.
    pub segments_out: u32,
    /// `data_segs_in`: segments with data received.
    pub segments_in: u32,
    /// Milliseconds in which the peer's receive window held up sending (`TCP_CHRONO_RWND_LIMITED`);
    /// [`u32::MAX`] if unknown.
    pub window_limited_ms: u32,
    /// Milliseconds in which the send buffer held up sending (`TCP_CHRONO_SNDBUF_LIMITED`);
    /// [`u32::MAX`] if unknown.
    pub buffer_limited_ms: u32,
}

/// A reset for a socket, received (tracepoint `tcp_receive_reset`) or sent (`tcp_send_reset`).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Reset {
    /// [`Kind::ResetReceived`] or [`Kind::ResetSent`].
    pub kind: u8,
    /// The socket's state.
    pub state: u8,
    /// Of a sent reset, a number of [`ResetReason`](crate::reset::ResetReason); otherwise 0.
    pub reason: u8,
    /// 1 if it was sent in answer to a segment, otherwise 0.
    pub answer: u8,
    /// Zero.
    pub reserved: u32,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    /// The socket's kernel address.
    pub sock: u64,
}

/// A socket was to be replaced by a TIME_WAIT socket
/// (`net/ipv4/inet_timewait_sock.c:inet_twsk_alloc`). Its →CLOSE follows at once.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TimeWaitEntry {
    /// [`Kind::TimeWaitEntry`].
    pub kind: u8,
    /// The state of the TIME_WAIT socket, TIME_WAIT or FIN_WAIT2; 0 if the table was full, so that
    /// there is none.
    pub substate: u8,
    /// Zero.
    pub reserved: [u8; 6],
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    /// The socket's kernel address.
    pub sock: u64,
}

/// A TIME_WAIT socket changed its substate or was freed. The addresses follow, as those of a
/// transition do.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TimeWaitChange {
    /// [`Kind::FinWait2ToTimeWait`] or [`Kind::TimeWaitExit`].
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// [`Flags::IPV6`] or none.
    pub flags: Flags,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    /// The network namespace, as in [`Step::netns`].
    pub netns: u32,
    /// The local port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
}

/// accept() took a connection from its listener's queue.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Accepted {
    /// [`Kind::Accepted`].
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 7],
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    /// The connection's kernel address.
    pub sock: u64,
}

const _: () = assert!(size_of::<Step>() == 48);
const _: () = assert!(size_of::<Opening>() == 104);
const _: () = assert!(size_of::<Established>() == 64);
const _: () = assert!(size_of::<Closing>() == 104);
const _: () = assert!(size_of::<Reset>() == 24);
const _: () = assert!(size_of::<TimeWaitEntry>() == 24 && size_of::<TimeWaitChange>() == 24);
const _: () = assert!(size_of::<Accepted>() == 24);
const _: () = assert!(size_of::<AddressesV4>() == 8 && size_of::<AddressesV6>() == 32);
