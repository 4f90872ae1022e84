//! Typed input of the tracker. [`crate::trace::decode`] produces it, live and in replay.

use std::net::{IpAddr, SocketAddr};

use synfin_common::{event::Flags, reset::ResetReason, state::TcpState};

use super::accept_queue::AcceptQueue;
use crate::trace::{
    counters::{NetnsCounters, Tick},
    ids::{Comm, ListenerId, MptcpId, NetnsId, NetnsInode, SockId},
    names::Names,
    scan::{NamespaceList, ScanBegin, ScanEnd, ScannedSocket, ScannedTimeWait, SocketHolders},
    time::Nanos,
};

/// One input of the tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A socket changed its state.
    Transition(Transition),
    /// A reset arrived for a socket, or was sent for it.
    Reset(Reset),
    /// The kernel handed a closing socket over to TIME_WAIT, or failed to.
    TimeWaitEntry(TimeWaitEntry),
    /// A socket in TIME_WAIT changed or was removed.
    TimeWaitChange(TimeWaitChange),
    /// accept() returned a connection.
    Accepted(Accepted),
    /// A scan of the sockets of a namespace is about to begin.
    ScanBegin(ScanBegin),
    /// The scan found a socket that is not in TIME_WAIT.
    ScannedSocket(ScannedSocket),
    /// The scan found a socket in TIME_WAIT.
    ScannedTimeWait(ScannedTimeWait),
    /// The scan is over, and all records older than its end have been delivered.
    ScanEnd(ScanEnd),
    /// The processes that have TCP sockets open, from a scan of all open files.
    SocketHolders(SocketHolders),
    /// The same for listeners and connections in CLOSE_WAIT only.
    ListenerHolders(SocketHolders),
    /// Names of cgroups, containers and network namespaces.
    Names(Names),
    /// The network namespaces of the host: others are gone.
    Namespaces(NamespaceList),
    /// The kernel's counters of a namespace were read, and all records older than that have been
    /// delivered.
    KernelCounters(NetnsCounters),
    /// The current time and the counters of the eBPF programs.
    Tick(Tick),
    /// A record was skipped because this version does not know its kind or one of its values.
    UnreadableRecord,
    /// A record of a scan could not be read. If its kind is unknown, neither could the rest of the frame.
    UnreadableScan,
}

/// A change of state of one socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Time of the event.
    pub time: Nanos,
    /// The socket.
    pub sock: SockId,
    /// The network namespace of the socket.
    pub netns: NetnsId,
    /// The state before.
    pub old: TcpState,
    /// The state after.
    pub new: TcpState,
    /// The local endpoint. The port is 0 until one is chosen.
    pub local: SocketAddr,
    /// The remote endpoint. The port is 0 while the kernel does not know it.
    pub remote: SocketAddr,
    /// See [`Flags`].
    pub flags: Flags,
    /// `sk_err`, an errno or 0.
    pub err: u8,
    /// `sk_err_soft`, the last ICMP error that did not close the connection, or 0.
    pub err_soft: u8,
    /// The process that caused the transition by a system call on its socket; `None` if a
    /// segment or a timer of the kernel caused it.
    pub pid: Option<u32>,
    /// Round trip in microseconds, or the time since the first SYN-ACK
    /// ([`Flags::SINCE_FIRST_SYNACK`]).
    pub rtt_us: u32,
    /// Consecutive expiries of the retransmission timer (`icsk_retransmits`).
    pub retransmits: u8,
    /// Unanswered keepalive or window probes (`icsk_probes_out`).
    pub probes: u8,
    /// Retransmitted segments so far (`total_retrans`).
    pub total_retransmits: u32,
    /// The MPTCP connection of a subflow, at its first transition or at →ESTABLISHED.
    pub mptcp: Option<MptcpId>,
    /// Details that only the first record of a socket has.
    pub opening: Option<Opening>,
    /// Details that only the last record of a socket has.
    pub closing: Option<Closing>,
}

impl Transition {
    /// The listener that created this connection, if this is its first transition; `None` if unknown.
    pub fn listener(&self) -> Option<ListenerId> {
        Some(self.opening.as_ref()?.listener?.sock)
    }

    /// The port of that listener; `None` if unknown.
    pub fn listener_port(&self) -> Option<u16> {
        let opening = self.opening.as_ref()?;
        let known = opening.listener.map(|it| it.port).filter(|&port| port != 0);
        known.or_else(|| self.has_listeners_port().then(|| self.local.port()))
    }

    /// Whether it restores a connection from a checkpoint (`TCP_REPAIR`). connect() restores a
    /// server's connections too.
    pub fn is_restored(&self) -> bool {
        self.flags.contains(Flags::REPAIR)
            && matches!(self.new, TcpState::SynSent | TcpState::Established)
    }

    /// Whether the local port is the listener's, and the connection's own is not known yet: up to Linux
    /// 6.14, the first transition of a listener's child precedes its endpoints.
    pub fn has_listeners_port(&self) -> bool {
        self.old == TcpState::Listen && self.new == TcpState::SynRecv && self.remote.port() == 0
    }
}

/// A reset that was received or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Time of the event.
    pub time: Nanos,
    /// The socket that received or sent it.
    pub sock: SockId,
    /// Whether it was received or sent.
    pub direction: ResetDirection,
}

/// Whether a reset was received or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetDirection {
    /// The kernel accepted a reset, or treats data that arrived after close() like one
    /// (`net/ipv4/tcp_input.c:tcp_reset`).
    Received,
    /// The kernel sent a reset.
    Sent {
        /// The kernel's reason.
        reason: ResetReason,
        /// Whether the reset answers a segment.
        answer: bool,
    },
}

/// The kernel handed a closing socket over to TIME_WAIT, or failed to
/// (`net/ipv4/tcp_minisocks.c:tcp_time_wait`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWaitEntry {
    /// Time of the event.
    pub time: Nanos,
    /// The socket.
    pub sock: SockId,
    /// The entry that replaces the socket.
    pub kind: TimeWaitKind,
}

/// The entry that replaces a socket when it is due to enter TIME_WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeWaitKind {
    /// An entry in TIME_WAIT.
    TimeWait,
    /// An orphan in FIN_WAIT2, which enters TIME_WAIT when the peer closes.
    FinWait2,
    /// No entry: the namespace already has `tcp_max_tw_buckets` sockets in TIME_WAIT.
    Nothing,
}

/// A socket in TIME_WAIT, or an orphan in FIN_WAIT2, changed or was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWaitChange {
    /// Time of the event.
    pub time: Nanos,
    /// The network namespace of the socket.
    pub netns: NetnsId,
    /// The local endpoint.
    pub local: SocketAddr,
    /// The remote endpoint.
    pub remote: SocketAddr,
    /// Whether the socket was removed. Otherwise an orphan in FIN_WAIT2 received the peer's FIN and
    /// entered TIME_WAIT.
    pub is_gone: bool,
}

/// accept() took a connection from the accept queue of its listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Time of the event.
    pub time: Nanos,
    /// The connection.
    pub sock: SockId,
}

/// Details that only the first record of a socket has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// Id of the socket's cgroup; 0 if unknown.
    pub cgroup: u64,
    /// Inode number of the network namespace; 0 in recordings of synfin before 0.3.
    pub netns_inode: NetnsInode,
    /// The listener's accept queue when it created this connection.
    pub accept_queue: AcceptQueue,
    /// For a socket that begins to listen, the number of its drops so far (`sk_drops`).
    pub drops: u32,
    /// The lowest and the highest port that connect() may choose, if the socket has a range of its own
    /// (`IP_LOCAL_PORT_RANGE`).
    pub port_range: Option<(u16, u16)>,
    /// The listener that created this connection; `None` of other sockets, or if unknown.
    pub listener: Option<ParentListener>,
    /// Name of the owning process; empty unless the process caused the transition.
    pub comm: Comm,
}

/// The listener that created a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentListener {
    /// Its socket.
    pub sock: ListenerId,
    /// Its port; 0 if unknown. Behind a transparent proxy (TPROXY, `sk_lookup`) the connection has
    /// another port.
    pub port: u16,
}

/// Details that only the last record of a socket has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closing {
    /// Sequence space that the peer acknowledged; SYN and FIN count one each (`bytes_acked`).
    pub bytes_acked: u64,
    /// Sequence space received; a FIN counts one (`bytes_received`).
    pub bytes_received: u64,
    /// Received bytes that no process read.
    pub unread: u32,
    /// Milliseconds since the last segment was received; `None` if unknown.
    pub idle_ms: Option<u32>,
    /// For a listener, the number of its drops (`sk_drops`).
    pub drops: u32,
    /// The smallest recent round-trip time in microseconds; `None` if none was measured or recorded.
    pub min_rtt_us: Option<u32>,
    /// Segments with data that were sent, again or for the first time (`data_segs_out`); 0 also if that
    /// was not recorded.
    pub segments_sent: u32,
    /// Milliseconds in which the peer's receive window held up sending; `None` if unknown.
    pub window_limited_ms: Option<u32>,
    /// Milliseconds in which the send buffer held up sending; `None` if unknown.
    pub buffer_limited_ms: Option<u32>,
}

/// An endpoint from 16 bytes of IPv6, or 4 bytes of IPv4 and zeros. IPv4-mapped addresses become
/// IPv4, as everywhere in synfin.
pub(crate) fn endpoint(ipv6: bool, bytes: [u8; 16], port: u16) -> SocketAddr {
    let address = if ipv6 {
        IpAddr::from(bytes).to_canonical()
    } else {
        IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])
    };
    SocketAddr::new(address, port)
}
