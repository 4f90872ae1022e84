//! Records that the hooks write to the ring buffer.
//!
//! Every record begins with its [`Kind`]; a kind that the reader does not know is counted and
//! skipped. A transition is a [`Step`] alone in the middle of a life, with what only a birth
//! ([`Opening`]) or an end ([`Closing`]) knows behind it; and behind that the addresses, [`Ends6`]
//! if [`Flags::IPV6`] is set and otherwise [`Ends4`]. So most records are one cache line.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a record is; its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A transition in the middle of a life: [`Step`].
    Step = 0,
    /// A transition to SYN_SENT, SYN_RECV or LISTEN: [`Opening`].
    Opening = 1,
    /// A transition to CLOSE: [`Closing`].
    Closing = 2,
    /// A reset arrived for a socket: [`Reset`].
    ResetReceived = 3,
    /// A reset was sent for a socket: [`Reset`].
    ResetSent = 4,
    /// A socket that is about to end was due a TIME_WAIT: [`TimeWaitEntry`].
    TimeWaitEntry = 5,
    /// An orphan in FIN_WAIT2 that the kernel keeps as it keeps TIME_WAITs has become one:
    /// [`TimeWaitChange`].
    TimeWaitTurn = 6,
    /// A TIME_WAIT is over: [`TimeWaitChange`].
    TimeWaitExit = 7,
    /// accept() took a connection: [`Accepted`].
    Accepted = 8,
}

impl Kind {
    /// How many kinds there are.
    pub const COUNT: usize = Self::ALL.len();
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Step,
        Self::Opening,
        Self::Closing,
        Self::ResetReceived,
        Self::ResetSent,
        Self::TimeWaitEntry,
        Self::TimeWaitTurn,
        Self::TimeWaitExit,
        Self::Accepted,
    ];

    /// The kind whose number is `number`, or `None` if this reader does not know it.
    pub const fn from_number(number: u8) -> Option<Self> {
        // `get` is not const yet.
        if (number as usize) < Self::COUNT { Some(Self::ALL[number as usize]) } else { None }
    }

    /// Whether the record reports a transition between two TCP states.
    pub const fn is_transition(self) -> bool {
        match self {
            Self::Step | Self::Opening | Self::Closing => true,
            Self::ResetReceived
            | Self::ResetSent
            | Self::TimeWaitEntry
            | Self::TimeWaitTurn
            | Self::TimeWaitExit
            | Self::Accepted => false,
        }
    }

    /// The name used where losses are listed by kind.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Opening => "opening",
            Self::Closing => "closing",
            Self::ResetReceived => "reset_received",
            Self::ResetSent => "reset_sent",
            Self::TimeWaitEntry => "time_wait_entry",
            Self::TimeWaitTurn => "time_wait_turn",
            Self::TimeWaitExit => "time_wait_exit",
            Self::Accepted => "accepted",
        }
    }
}

/// Facts about a socket that are one bit each, at the moment of its record. A step in the middle of
/// a life carries only those that say so; an end and a walk carry all.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Flags(pub u32);

impl Flags {
    /// The addresses are IPv6 (an IPv4-mapped one included). In every record.
    pub const IPV6: Self = Self(1);
    /// `SOCK_DEAD`: no process holds the socket any more.
    pub const DEAD: Self = Self(1 << 1);
    /// `SOCK_DONE`: the peer's FIN has been received.
    pub const FIN_RECEIVED: Self = Self(1 << 2);
    /// `SO_LINGER` with a time of zero: close() resets.
    pub const LINGER0: Self = Self(1 << 3);
    /// `sk_socket` is set: the socket has been accepted or was made by `socket()`.
    pub const HAS_SOCKET: Self = Self(1 << 4);
    /// `RCV_SHUTDOWN`.
    pub const SHUT_READ: Self = Self(1 << 5);
    /// `SEND_SHUTDOWN`.
    pub const SHUT_WRITE: Self = Self(1 << 6);
    /// `TCP_REPAIR` is on (checkpoint/restore moves the connection). At →ESTABLISHED as well.
    pub const REPAIR: Self = Self(1 << 7);
    /// The listener defers accept until data comes (`TCP_DEFER_ACCEPT`). Of listeners, and up to
    /// 6.14 of their children at birth.
    pub const DEFER_ACCEPT: Self = Self(1 << 8);
    /// The TIME_WAIT table of the namespace is full (`tcp_max_tw_buckets`): at an end that is due
    /// one, because of it or without room for it.
    pub const TIME_WAIT_FULL: Self = Self(1 << 9);
    /// `TCP_LINGER2` is negative: FIN_WAIT2 is cut short by a reset.
    pub const LINGER2_NEGATIVE: Self = Self(1 << 10);
    /// Segments are sent and not yet acknowledged.
    pub const UNACKNOWLEDGED: Self = Self(1 << 11);
    /// [`Step::rtt_us`] is the time since the first SYN-ACK, not a smoothed round trip.
    pub const SINCE_FIRST_SYNACK: Self = Self(1 << 12);
    /// [`Step::pid`] made this transition by a system call on its own socket. In every record.
    pub const BY_OWNER: Self = Self(1 << 13);
    /// Data waits that was never sent. At an end with an error only.
    pub const UNSENT: Self = Self(1 << 14);
    /// The peer's window is closed. At an end with an error only.
    pub const ZERO_WINDOW: Self = Self(1 << 15);
    /// `TCP_USER_TIMEOUT` is set. At an end with an error only.
    pub const USER_TIMEOUT: Self = Self(1 << 16);
    /// The SYN asked for a Fast Open cookie or carried data. At →ESTABLISHED after a retransmission
    /// only.
    pub const FAST_OPEN: Self = Self(1 << 17);

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One (old state, new state) of one socket: the whole of [`Kind::Step`], and the head of
/// [`Opening`] and [`Closing`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Step {
    /// A number of [`Kind`].
    pub kind: u8,
    /// The state that the socket leaves, by the kernel's number.
    pub old: u8,
    /// The state that it enters.
    pub new: u8,
    /// `sk_err`: an errno, or 0.
    pub err: u8,
    /// See [`Flags`].
    pub flags: Flags,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    /// The socket's kernel address; reused by later sockets.
    pub sock: u64,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// The process (thread group) if [`Flags::BY_OWNER`], else 0.
    pub pid: u32,
    /// Our port, 0 while none is chosen.
    pub local_port: u16,
    /// The peer's port, 0 where the record cannot know it (a birth from a listener up to 6.14).
    pub remote_port: u16,
    /// Round trip, microseconds: at →ESTABLISHED the handshake's (see [`Flags::SINCE_FIRST_SYNACK`]).
    pub rtt_us: u32,
    /// At an end, else 0: `sk_err_soft`, the last ICMP error that did not end the connection, or 0.
    pub err_soft: u8,
    /// At an end, else 0: `icsk_retransmits`, retransmission timer expiries in a row.
    pub retransmits: u8,
    /// At an end, else 0: `icsk_probes_out`, keepalive or window probes not answered.
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
pub struct Ends4 {
    /// Ours.
    pub local: [u8; 4],
    /// The peer's.
    pub remote: [u8; 4],
}

/// The addresses of an IPv6 socket; they may be IPv4-mapped.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Ends6 {
    /// Ours.
    pub local: [u8; 16],
    /// The peer's.
    pub remote: [u8; 16],
}

/// A birth: the connection's first record, or a listener's.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Opening {
    /// The transition.
    pub step: Step,
    /// Id of the socket's cgroup, 0 if unknown.
    pub cgroup: u64,
    /// Connections waiting for accept(): of the listener that a server's child came from. Of a
    /// socket that begins to listen, all that it has dropped before (`sk_drops`).
    pub accept_queue: u32,
    /// The limit of that queue.
    pub accept_limit: u32,
    /// Name of the owning process, NUL-padded; zeros unless [`Flags::BY_OWNER`].
    pub comm: [u8; 16],
}

/// An end: the last record of a life.
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
    /// Bytes received in order that nobody read; of a listener, all that it dropped (`sk_drops`).
    pub unread: u32,
    /// Milliseconds since the last segment was received; [`u32::MAX`] if unknown.
    pub idle_ms: u32,
}

/// `tcp_receive_reset` or `tcp_send_reset` fired for a socket.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Reset {
    /// [`Kind::ResetReceived`] or [`Kind::ResetSent`].
    pub kind: u8,
    /// The socket's state.
    pub state: u8,
    /// Of one that was sent, a number of [`ResetReason`](crate::reset::ResetReason); else 0.
    pub reason: u8,
    /// 1 if it was sent in answer to a segment; else 0.
    pub answer: u8,
    /// Zero.
    pub reserved: u32,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    /// The socket's kernel address.
    pub sock: u64,
}

/// A socket was due a TIME_WAIT, or the like in FIN_WAIT2; its →CLOSE follows at once.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TimeWaitEntry {
    /// [`Kind::TimeWaitEntry`].
    pub kind: u8,
    /// In which state its remains are, TIME_WAIT or FIN_WAIT2; 0: the kernel's table was full, and
    /// nothing remains.
    pub substate: u8,
    /// Zero.
    pub reserved: [u8; 6],
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    /// The socket's kernel address.
    pub sock: u64,
}

/// Something befell what remains of a socket. Behind it come the addresses, as in [`Step`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TimeWaitChange {
    /// [`Kind::TimeWaitTurn`] or [`Kind::TimeWaitExit`].
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// [`Flags::IPV6`] or nothing.
    pub flags: Flags,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
}

/// accept() took a connection out of its listener's queue.
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
const _: () = assert!(size_of::<Opening>() == 80);
const _: () = assert!(size_of::<Closing>() == 72);
const _: () = assert!(size_of::<Reset>() == 24);
const _: () = assert!(size_of::<TimeWaitEntry>() == 24 && size_of::<TimeWaitChange>() == 24);
const _: () = assert!(size_of::<Accepted>() == 24);
const _: () = assert!(size_of::<Ends4>() == 8 && size_of::<Ends6>() == 32);
