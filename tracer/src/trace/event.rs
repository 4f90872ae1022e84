//! What the tracker is given, typed. All of it comes out of [`crate::trace::decode`], live or replayed.

use std::net::{IpAddr, SocketAddr};

use synfin_common::{event::Flags, reset::ResetReason, state::TcpState};

use crate::trace::{
    counters::Tick,
    ids::{Comm, NetnsId, SockId},
    names::Names,
    scan::{ScanBegin, ScanEnd, ScannedSocket, ScannedTimeWait, SocketHolder},
    time::Nanos,
};

/// One piece of input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A socket changed its state.
    Transition(Transition),
    /// A reset arrived for a socket, or was sent for it.
    Reset(Reset),
    /// A socket that is about to end was due a TIME_WAIT.
    TimeWaitEntry(TimeWaitEntry),
    /// Something befell a TIME_WAIT.
    TimeWaitChange(TimeWaitChange),
    /// accept() took a connection.
    Accepted(Accepted),
    /// A scan over a namespace's sockets is about to begin.
    ScanBegin(ScanBegin),
    /// The scan met a socket that is not in TIME_WAIT.
    ScannedSocket(ScannedSocket),
    /// The scan met a socket in TIME_WAIT.
    ScannedTimeWait(ScannedTimeWait),
    /// The scan is over, and all records older than its end have been given.
    ScanEnd(ScanEnd),
    /// Who has which TCP sockets open, as a look at all open files shows it.
    SocketHolders(Vec<SocketHolder>),
    /// Names of what the kernel numbers.
    Names(Names),
    /// Time passes; what the kernel side has counted by now.
    Tick(Tick),
    /// A record of a kind or a content that this version does not know was skipped.
    UnreadableRecord,
    /// The same of a scan; the rest of it is not understood either.
    UnreadableScan,
}

/// One (old state, new state) of one socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// When.
    pub time: Nanos,
    /// The socket.
    pub sock: SockId,
    /// Its namespace.
    pub netns: NetnsId,
    /// The state that it left.
    pub old: TcpState,
    /// The state that it entered.
    pub new: TcpState,
    /// Our end. Port 0: not chosen yet.
    pub local: SocketAddr,
    /// The peer's end. Port 0: the kernel did not know it yet.
    pub remote: SocketAddr,
    /// Facts of one bit.
    pub flags: Flags,
    /// `sk_err`, an errno or 0.
    pub err: u8,
    /// `sk_err_soft`, the last ICMP error that did not end the connection, or 0.
    pub err_soft: u8,
    /// The process that made the transition, if it was the socket's owner.
    pub pid: Option<u32>,
    /// Round trip in microseconds, or the time since the first SYN-ACK
    /// ([`Flags::SINCE_FIRST_SYNACK`]).
    pub rtt_us: u32,
    /// Retransmission timer expiries in a row.
    pub retransmits: u8,
    /// Probes not answered.
    pub probes: u8,
    /// Segments retransmitted so far.
    pub total_retransmits: u32,
    /// What only a birth knows.
    pub opening: Option<Opening>,
    /// What only an end knows.
    pub closing: Option<Closing>,
}

/// A reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// When.
    pub time: Nanos,
    /// For which socket.
    pub sock: SockId,
    /// Which way it went.
    pub direction: ResetDirection,
}

/// Which way a reset went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetDirection {
    /// The kernel accepted it; or it treats data that came after close() likewise.
    Received,
    /// We sent it.
    Sent {
        /// Why.
        reason: ResetReason,
        /// It answers a segment.
        answer: bool,
    },
}

/// A socket that is about to end was due a TIME_WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWaitEntry {
    /// When.
    pub time: Nanos,
    /// The socket.
    pub sock: SockId,
    /// What it left behind.
    pub kind: TimeWaitKind,
}

/// What a socket leaves behind that was due a TIME_WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeWaitKind {
    /// A TIME_WAIT.
    TimeWait,
    /// An orphan in FIN_WAIT2, which becomes one when the peer closes.
    FinWait2,
    /// Nothing: the kernel's table is full.
    Nothing,
}

/// Something befell what remains of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWaitChange {
    /// When.
    pub time: Nanos,
    /// Its namespace.
    pub netns: NetnsId,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// It is gone; otherwise it was an orphan in FIN_WAIT2, and the peer's FIN has come.
    pub is_gone: bool,
}

/// accept() took a connection out of its listener's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// When.
    pub time: Nanos,
    /// The connection.
    pub sock: SockId,
}

/// What only a birth knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Cgroup id, 0 if unknown.
    pub cgroup: u64,
    /// The listener's accept queue and its limit, when a child was born of it. Of a socket that
    /// begins to listen, the first is all that it has dropped before.
    pub accept_queue: (u32, u32),
    /// The owning process's name, if it made the transition: as the kernel has it, so it may
    /// hold any bytes but NUL.
    pub comm: Comm,
}

/// What only an end knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Sequence space that the peer acknowledged (SYN and FIN count).
    pub bytes_acked: u64,
    /// Sequence space received (a FIN counts).
    pub bytes_received: u64,
    /// Bytes received that nobody read; of a listener, all that it dropped.
    pub unread: u32,
    /// Milliseconds since the last segment was received.
    pub idle_ms: Option<u32>,
}

/// An address as synfin shows and compares it: an IPv4-mapped one is its IPv4 form.
pub(crate) fn endpoint(ipv6: bool, bytes: [u8; 16], port: u16) -> SocketAddr {
    let address = if ipv6 {
        IpAddr::from(bytes).to_canonical()
    } else {
        IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])
    };
    SocketAddr::new(address, port)
}
