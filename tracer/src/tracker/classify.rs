//! Classifies closes: decides why a connection failed or closed.
//!
//! The meaning of the evidence is derived from the kernel's source (`net/ipv4/tcp*.c`) and from
//! experiments on Linux 5.10 to 7.x. CONTRIBUTING.md lists what a new reason needs.

use synfin_common::{event::Flags, reset::ResetReason, state::TcpState};

use crate::{
    tcp::{close_reason::CloseReason, role::Role},
    trace::event::{ResetDirection, TimeWaitKind, Transition},
};

/// Whether a connection left a TIME_WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeWait {
    /// No TIME_WAIT was due.
    None,
    /// The connection left a TIME_WAIT.
    Entered,
    /// The connection left an orphan in FIN_WAIT2, which becomes a TIME_WAIT when the peer closes.
    InFinWait2,
    /// A TIME_WAIT was due, but the kernel's table was full.
    Overflowed,
    /// A TIME_WAIT was due when the kernel's table was full: it took the last place or got none.
    Unconfirmed,
}

impl TimeWait {
    /// Whether the kernel has an entry in its table.
    pub(crate) const fn is_entered(self) -> bool {
        matches!(self, Self::Entered | Self::InFinWait2)
    }
}

/// How a transition to CLOSE is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseOutcome {
    /// The connection failed or closed.
    Closed(CloseReason, TimeWait),
    /// The socket never was a connection: a child that lost a race within the kernel.
    Discarded,
}

impl CloseOutcome {
    /// Whether the connection left a TIME_WAIT.
    pub(crate) const fn time_wait(self) -> TimeWait {
        match self {
            Self::Closed(_, time_wait) => time_wait,
            Self::Discarded => TimeWait::None,
        }
    }
}

/// The evidence from a connection's history before its last transition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CloseEvidence {
    pub(crate) role: Role,
    /// Whether the handshake had completed.
    pub(crate) established: bool,
    /// Whether it is a subflow of an MPTCP connection, whose socket the application holds instead.
    pub(crate) is_subflow: bool,
    /// Whether accept() is known to have returned it.
    pub(crate) accepted: bool,
    /// Why another subflow of its MPTCP connection was reset just before the close; `None` if none was.
    pub(crate) sibling_reset: Option<CloseReason>,
    /// The resets received and sent.
    pub(crate) resets: Resets,
    /// The TIME_WAIT kind; `None` without a record of it: no TIME_WAIT was due, the hook is not
    /// available, or the record was lost.
    pub(crate) time_wait_kind: Option<TimeWaitKind>,
}

/// The resets of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resets {
    /// Whether the kernel accepted a reset, or treated data after close() as one
    /// (`net/ipv4/tcp_input.c:tcp_reset`).
    received: bool,
    /// The reason of the last reset sent, and whether it answered a segment.
    sent: Option<(ResetReason, bool)>,
}

impl Resets {
    pub(crate) fn note(&mut self, direction: ResetDirection) {
        match direction {
            ResetDirection::Received => self.received = true,
            ResetDirection::Sent { reason, answer } => self.sent = Some((reason, answer)),
        }
    }

    /// Whether a reset was sent.
    const fn sent(self) -> bool {
        self.sent.is_some()
    }

    /// Whether the last reset sent answered a segment.
    const fn answered(self) -> bool {
        matches!(self.sent, Some((_, true)))
    }

    /// Whether the last reset sent did not answer a segment.
    const fn sent_unprompted(self) -> bool {
        matches!(self.sent, Some((_, false)))
    }

    /// Whether the last reset was sent for this reason.
    fn is_for(self, reason: ResetReason) -> bool {
        self.sent.is_some_and(|(sent, _)| sent == reason)
    }
}

// Errnos of Linux (asm-generic; the same on every architecture that synfin runs on).
const EPIPE: u8 = 32;
const ENONET: u8 = 64;
const EBADMSG: u8 = 74;
const ENOPROTOOPT: u8 = 92;
const ENETUNREACH: u8 = 101;
const ECONNABORTED: u8 = 103;
const ECONNRESET: u8 = 104;
const ETIMEDOUT: u8 = 110;
const ECONNREFUSED: u8 = 111;
const EHOSTDOWN: u8 = 112;
const EHOSTUNREACH: u8 = 113;

/// Classifies a close by its transition to CLOSE and the evidence before it.
pub(crate) fn classify(end: &Transition, history: CloseEvidence) -> CloseOutcome {
    if !history.established {
        return match end.old {
            TcpState::SynSent => CloseOutcome::Closed(failed_connect(end, history), TimeWait::None),
            // A child that no process holds and that lost the race for its place in the hash table.
            // (A Fast Open child that was never accepted is reset with its listener.)
            _ if history.role == Role::Server
                && end.err == 0
                && !history.resets.sent()
                && !end.flags.contains(Flags::HAS_SOCKET) =>
            {
                CloseOutcome::Discarded
            }
            _ => CloseOutcome::Closed(CloseReason::HandshakeAborted, TimeWait::None),
        };
    }
    let reason = closed(end, history);
    let is_due = matches!(reason, CloseReason::ClosedByUs | CloseReason::ClosedByBoth);
    let time_wait = match history.time_wait_kind {
        Some(time_wait_kind) => match time_wait_kind {
            TimeWaitKind::TimeWait => TimeWait::Entered,
            TimeWaitKind::FinWait2 => TimeWait::InFinWait2,
            TimeWaitKind::Nothing if is_due => TimeWait::Overflowed,
            TimeWaitKind::Nothing => TimeWait::None,
        },
        // The kernel reports the transition to CLOSE with or without a TIME_WAIT.
        None if is_due && end.flags.contains(Flags::TIME_WAIT_FULL) => TimeWait::Unconfirmed,
        None if is_due => TimeWait::Entered,
        None => TimeWait::None,
    };
    CloseOutcome::Closed(reason, time_wait)
}

fn failed_connect(end: &Transition, history: CloseEvidence) -> CloseReason {
    match end.err {
        ECONNREFUSED if history.resets.received => CloseReason::ConnectRefusedRst,
        ECONNREFUSED | ENOPROTOOPT => CloseReason::ConnectRefusedIcmp,
        ETIMEDOUT => CloseReason::ConnectTimeout,
        EHOSTUNREACH | EHOSTDOWN | ENONET => CloseReason::ConnectUnreachableHost,
        ENETUNREACH => CloseReason::ConnectUnreachableNet,
        ECONNABORTED => CloseReason::ConnectDestroyed,
        // connect() itself gave up before the socket could be closed.
        0 if !end.flags.contains(Flags::SHUT_WRITE) => CloseReason::ConnectLocalFailure,
        0 if end.total_retransmits > 0 => CloseReason::ConnectAbandoned,
        0 => CloseReason::ConnectCancelled,
        _ => CloseReason::ConnectUnknown,
    }
}

/// Whether a reset that this host sends would follow this transition and add evidence.
pub(crate) fn awaits_reset(end: &Transition, history: CloseEvidence) -> bool {
    use TcpState::{Closing, FinWait1, FinWait2, LastAck, SynRecv};
    let has_time_wait =
        matches!(history.time_wait_kind, Some(TimeWaitKind::TimeWait | TimeWaitKind::FinWait2));
    if history.resets.sent() || has_time_wait {
        return false;
    }
    match (end.err, end.old) {
        // Data after close() looks like a received reset.
        (ECONNRESET | EPIPE, FinWait1 | FinWait2 | Closing | LastAck) => true,
        // Data with the ACK of the FIN resets a connection that seems to enter TIME_WAIT.
        (0, FinWait2) => !end.flags.contains(Flags::FIN_RECEIVED),
        // Too many orphans, or the namespace is being removed.
        (0, FinWait1) => true,
        (0, Closing | LastAck) => end.flags.contains(Flags::UNACKNOWLEDGED),
        // A child that the kernel discards, or one whose listener has closed.
        (0, SynRecv) => true,
        _ => false,
    }
}

fn closed(end: &Transition, history: CloseEvidence) -> CloseReason {
    use TcpState::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynRecv};
    let has = |flag| end.flags.contains(flag);
    let resets = history.resets;
    match (end.err, end.old) {
        (ECONNABORTED, _) => CloseReason::DestroyedByAdmin,
        // A reset in CLOSE_WAIT is EPIPE to the application. The peer's kernel may reset this subflow
        // because this host has reset another one.
        (ECONNRESET | EPIPE, Established | CloseWait) => {
            history.sibling_reset.unwrap_or(CloseReason::ResetByPeer)
        }
        (ECONNRESET | EPIPE, _) if resets.answered() => CloseReason::ResetByUsDataAfterClose,
        (ECONNRESET | EPIPE, _) => CloseReason::ResetByPeerClosing,

        // A local abort is reported before the kernel sets an error.
        (0, _) if has(Flags::REPAIR) => CloseReason::DestroyedByAdmin,
        (0, _) if resets.is_for(ResetReason::AbortOnMemory) => CloseReason::ResetByUsMemory,
        // A half-closed connection can still be aborted: then no FIN was received and a process
        // still holds the socket, or the local FIN was not acknowledged.
        (0, FinWait2) if !has(Flags::FIN_RECEIVED) && !has(Flags::DEAD) => aborted(end, history),
        (0, Closing | LastAck) if has(Flags::UNACKNOWLEDGED) => aborted(end, history),

        (0, LastAck) => CloseReason::ClosedByPeer,
        (0, Closing) => CloseReason::ClosedByBoth,
        (0, FinWait2) if has(Flags::LINGER2_NEGATIVE) => CloseReason::ResetByUsLinger2,
        (0, FinWait2) if resets.answered() => CloseReason::ResetByUsDataAfterClose,
        // The peer's FIN did not come in time (tcp_fin_timeout).
        (0, FinWait2) if resets.sent_unprompted() => CloseReason::TimeoutOrphan,
        (0, FinWait2) => CloseReason::ClosedByUs,

        (0, Established | CloseWait | SynRecv)
            if !history.is_subflow && !has(Flags::HAS_SOCKET) && !has(Flags::DEAD) =>
        {
            CloseReason::ResetByUsListenerClosed
        }
        (0, Established | CloseWait | FinWait1 | SynRecv) => aborted(end, history),
        (0, _) => CloseReason::Unknown,

        // MPTCP found an invalid checksum or mapping (`net/mptcp/subflow.c`).
        (EBADMSG, _) if history.is_subflow => CloseReason::ResetByUsMptcp,

        // Only timeouts remain, some with the errno of the last ICMP error.
        (_, FinWait1 | Closing | LastAck) if has(Flags::DEAD) => CloseReason::TimeoutOrphan,
        // TCP_USER_TIMEOUT alone decides how long the kernel waits, if it is set.
        (_, _) if has(Flags::USER_TIMEOUT) => CloseReason::TimeoutUser,
        (_, _) if resets.sent_unprompted() => CloseReason::TimeoutKeepalive,
        (_, _) if has(Flags::UNACKNOWLEDGED) && has(Flags::ZERO_WINDOW) => {
            CloseReason::TimeoutZeroWindow
        }
        (_, _) if end.probes > 0 && !has(Flags::UNACKNOWLEDGED) && has(Flags::UNSENT) => {
            CloseReason::TimeoutZeroWindow
        }
        (_, _) if end.probes > 0 && !has(Flags::UNACKNOWLEDGED) => CloseReason::TimeoutKeepalive,
        (_, _) => CloseReason::TimeoutRetransmission,
    }
}

/// Why this host aborted the connection, by the flags of the socket. The kernel checks for unread
/// data first (`net/ipv4/tcp.c:__tcp_close`).
fn aborted(end: &Transition, history: CloseEvidence) -> CloseReason {
    let has = |flag| end.flags.contains(flag);
    if history.is_subflow && !has(Flags::DEAD) {
        aborted_subflow(end, history)
    } else if !(has(Flags::SHUT_READ) && has(Flags::SHUT_WRITE)) {
        // close() shuts down both directions first.
        CloseReason::ResetByUsDisconnect
    } else if end.closing.is_some_and(|closing| closing.unread > 0) {
        CloseReason::ResetByUsUnreadData
    } else if has(Flags::LINGER0) {
        CloseReason::ResetByUsLinger0
    } else if !has(Flags::DEAD) {
        CloseReason::Unknown
    } else if history.resets.sent_unprompted() {
        // The only remaining reason (kernels before 6.10 report none).
        CloseReason::ResetByUsMemory
    } else {
        CloseReason::NamespaceGone
    }
}

/// Why this host aborted a subflow of an MPTCP connection (`net/mptcp/protocol.c`). The application
/// holds the MPTCP socket, which leaves its subflows without a socket before it ends them, and takes
/// their data from them, so that none is unread.
fn aborted_subflow(end: &Transition, history: CloseEvidence) -> CloseReason {
    let has = |flag| end.flags.contains(flag);
    let resets = history.resets;
    // The peer has reset another subflow, so the kernel resets this one.
    if history.sibling_reset == Some(CloseReason::ResetByPeer) && end.pid.is_none() {
        return CloseReason::ResetByPeer;
    }
    // MPTCP_FASTCLOSE. Since 6.18 (and stable kernels of 2025), the kernel sends it before the
    // transition, and SO_LINGER is the application's; older ones set SO_LINGER 0 in order to send it.
    let fast_closed = resets.is_for(ResetReason::AbortOnClose) && resets.sent_unprompted();
    if has(Flags::HAS_SOCKET) {
        // connect(AF_UNSPEC) is a system call. The kernel reports a violation of the protocol first.
        return if end.pid.is_some() && (fast_closed || !resets.sent()) {
            CloseReason::ResetByUsDisconnect
        } else {
            CloseReason::ResetByUsMptcp
        };
    }
    // The kernel takes a child in the accept queue out of its MPTCP connection before it ends it.
    let left_mptcp = !has(Flags::MPTCP);
    let not_fast_closed = !resets.sent() && !has(Flags::LINGER0) && !has(Flags::SHUT_WRITE);
    if history.role == Role::Server && !history.accepted && (left_mptcp || not_fast_closed) {
        CloseReason::ResetByUsListenerClosed
    } else if end.closing.is_some_and(|closing| closing.unread > 0) {
        CloseReason::ResetByUsUnreadData
    } else if !fast_closed {
        CloseReason::ResetByUsMptcp
    } else if has(Flags::LINGER0) {
        CloseReason::ResetByUsLinger0
    } else if end.pid.is_some() {
        // close() sends it without SO_LINGER 0 for this reason only.
        CloseReason::ResetByUsUnreadData
    } else {
        CloseReason::ResetByUsMptcp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_unique_id_and_all_texts() {
        for (index, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert_eq!(CloseReason::from_id(reason.id()), Some(*reason));
            let info = reason.info();
            assert!(!info.title.is_empty() && info.meaning.ends_with('.'), "{}", info.id);
            assert!(info.advice.ends_with(['.', '?']), "{}", info.id);
        }
    }
}
