//! Why a connection ended: the reasons, what they mean, and how one is decided.
//!
//! Facts about the kernel's evidence are from its source (`net/ipv4/tcp*.c`) and from experiments
//! on 5.10 to 7.x. A new reason is added here: a variant, its [`Info`], an arm of `classify`.

use synfin_common::{event::Flags, reset::ResetReason, state::TcpState};

use crate::{
    tcp::{close_reason::CloseReason, role::Role},
    trace::event::{ResetDirection, TimeWaitKind, Transition},
};

/// Whether an end left a TIME_WAIT behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeWait {
    /// None was due.
    None,
    /// It did.
    Entered,
    /// It left an orphan in FIN_WAIT2, which becomes one when the peer closes.
    InFinWait2,
    /// The kernel's table was full.
    Overflowed,
    /// The kernel's table was full: it took the last place, or found none.
    Unconfirmed,
}

impl TimeWait {
    /// Something is left behind.
    pub(crate) const fn is_entered(self) -> bool {
        matches!(self, Self::Entered | Self::InFinWait2)
    }
}

/// How an end is to be booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseOutcome {
    /// The connection ended.
    Ended(CloseReason, TimeWait),
    /// It never was one: a child that lost a race within the kernel.
    Discarded,
}

impl CloseOutcome {
    /// What is left behind.
    pub(crate) const fn time_wait(self) -> TimeWait {
        match self {
            Self::Ended(_, time_wait) => time_wait,
            Self::Discarded => TimeWait::None,
        }
    }
}

/// What the connection up to its end adds to the evidence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CloseEvidence {
    pub(crate) role: Role,
    /// The handshake was through.
    pub(crate) established: bool,
    /// Which resets there were.
    pub(crate) resets: Resets,
    /// What it left behind; `None` if nothing has shown that: none was due, the kernel does not
    /// show it, or the record was lost.
    pub(crate) time_wait_kind: Option<TimeWaitKind>,
}

/// The resets of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resets {
    /// The kernel accepted one, or treated data as one that came after close().
    received: bool,
    /// The last that we sent, and whether it was in answer to a segment.
    sent: Option<(ResetReason, bool)>,
}

impl Resets {
    pub(crate) fn note(&mut self, way: ResetDirection) {
        match way {
            ResetDirection::Received => self.received = true,
            ResetDirection::Sent { reason, answer } => self.sent = Some((reason, answer)),
        }
    }

    /// We sent one.
    const fn sent(self) -> bool {
        self.sent.is_some()
    }

    /// We answered a segment with a reset.
    const fn answered(self) -> bool {
        matches!(self.sent, Some((_, true)))
    }

    /// We sent one of our own accord.
    const fn sent_unprompted(self) -> bool {
        matches!(self.sent, Some((_, false)))
    }

    /// We sent one for this reason.
    fn is_for(self, reason: ResetReason) -> bool {
        self.sent.is_some_and(|(sent, _)| sent == reason)
    }
}

// Errnos of Linux (asm-generic; the same on every architecture that synfin runs on).
const EPIPE: u8 = 32;
const ENONET: u8 = 64;
const ENOPROTOOPT: u8 = 92;
const ENETUNREACH: u8 = 101;
const ECONNABORTED: u8 = 103;
const ECONNRESET: u8 = 104;
const ETIMEDOUT: u8 = 110;
const ECONNREFUSED: u8 = 111;
const EHOSTDOWN: u8 = 112;
const EHOSTUNREACH: u8 = 113;

/// Decides why a connection ended from its last transition, which is to CLOSE, and its past.
pub(crate) fn classify(end: &Transition, past: CloseEvidence) -> CloseOutcome {
    if !past.established {
        return match end.old {
            TcpState::SynSent => CloseOutcome::Ended(failed_connect(end, past), TimeWait::None),
            // A child in the kernel's hands that lost the race for its place in the hash table. (A
            // Fast Open child that nobody accepted is reset with its listener.)
            _ if past.role == Role::Server
                && end.err == 0
                && !past.resets.sent()
                && !end.flags.contains(Flags::HAS_SOCKET) =>
            {
                CloseOutcome::Discarded
            }
            _ => CloseOutcome::Ended(CloseReason::HandshakeAborted, TimeWait::None),
        };
    }
    let reason = closed(end, past.resets);
    let is_due = matches!(reason, CloseReason::ClosedByUs | CloseReason::ClosedByBoth);
    let time_wait = match past.time_wait_kind {
        Some(time_wait_kind) => match time_wait_kind {
            TimeWaitKind::TimeWait => TimeWait::Entered,
            TimeWaitKind::FinWait2 => TimeWait::InFinWait2,
            TimeWaitKind::Nothing if is_due => TimeWait::Overflowed,
            TimeWaitKind::Nothing => TimeWait::None,
        },
        // The kernel asks for a TIME_WAIT and reports →CLOSE whether it got one or not.
        None if is_due && end.flags.contains(Flags::TIME_WAIT_FULL) => TimeWait::Unconfirmed,
        None if is_due => TimeWait::Entered,
        None => TimeWait::None,
    };
    CloseOutcome::Ended(reason, time_wait)
}

fn failed_connect(end: &Transition, past: CloseEvidence) -> CloseReason {
    match end.err {
        ECONNREFUSED if past.resets.received => CloseReason::ConnectRefusedRst,
        ECONNREFUSED | ENOPROTOOPT => CloseReason::ConnectRefusedIcmp,
        ETIMEDOUT => CloseReason::ConnectTimeout,
        EHOSTUNREACH | EHOSTDOWN | ENONET => CloseReason::ConnectUnreachableHost,
        ENETUNREACH => CloseReason::ConnectUnreachableNet,
        ECONNABORTED => CloseReason::ConnectDestroyed,
        // connect() itself gave up before the socket could be closed.
        0 if !end.flags.contains(Flags::SHUT_WRITE) => CloseReason::ConnectLocalFailure,
        0 => CloseReason::ConnectCancelled,
        _ => CloseReason::ConnectUnknown,
    }
}

/// Whether the reset that we send, if we do, comes only after this end, and would tell more.
pub(crate) fn awaits_reset(end: &Transition, past: CloseEvidence) -> bool {
    use TcpState::{Closing, FinWait1, FinWait2, LastAck, SynRecv};
    let has_remains =
        matches!(past.time_wait_kind, Some(TimeWaitKind::TimeWait | TimeWaitKind::FinWait2));
    if past.resets.sent() || has_remains {
        return false;
    }
    match (end.err, end.old) {
        // Data after close() looks like a reset that was received.
        (ECONNRESET | EPIPE, FinWait1 | FinWait2 | Closing | LastAck) => true,
        // Data that comes with the ACK of our FIN ends what looks like a TIME_WAIT.
        (0, FinWait2) => !end.flags.contains(Flags::FIN_RECEIVED),
        // Too many orphans, or a dying namespace.
        (0, FinWait1) => true,
        (0, Closing | LastAck) => end.flags.contains(Flags::UNACKNOWLEDGED),
        // A child that the kernel takes back, or one whose listener has closed.
        (0, SynRecv) => true,
        _ => false,
    }
}

fn closed(end: &Transition, resets: Resets) -> CloseReason {
    use TcpState::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynRecv};
    let has = |flag| end.flags.contains(flag);
    match (end.err, end.old) {
        (ECONNABORTED, _) => CloseReason::DestroyedByAdmin,
        // An RST in CLOSE_WAIT is EPIPE to the application.
        (ECONNRESET | EPIPE, Established | CloseWait) => CloseReason::ResetByPeer,
        (ECONNRESET | EPIPE, _) if resets.answered() => CloseReason::ResetByUsDataAfterClose,
        (ECONNRESET | EPIPE, _) => CloseReason::ResetByPeerClosing,

        // The kernel sets no error before it reports that we aborted.
        (0, _) if has(Flags::REPAIR) => CloseReason::DestroyedByAdmin,
        (0, _) if resets.is_for(ResetReason::AbortOnMemory) => CloseReason::ResetByUsMemory,
        // Half-closed, we may still abort: then no FIN has come and the socket is still held, or
        // our own FIN has not been acknowledged.
        (0, FinWait2) if !has(Flags::FIN_RECEIVED) && !has(Flags::DEAD) => aborted(end, resets),
        (0, Closing | LastAck) if has(Flags::UNACKNOWLEDGED) => aborted(end, resets),

        (0, LastAck) => CloseReason::ClosedByPeer,
        (0, Closing) => CloseReason::ClosedByBoth,
        (0, FinWait2) if has(Flags::LINGER2_NEGATIVE) => CloseReason::ResetByUsLinger2,
        (0, FinWait2) if resets.answered() => CloseReason::ResetByUsDataAfterClose,
        // The peer's FIN was waited for in vain (tcp_fin_timeout).
        (0, FinWait2) if resets.sent_unprompted() => CloseReason::TimeoutOrphan,
        (0, FinWait2) => CloseReason::ClosedByUs,

        (0, Established | CloseWait | SynRecv) if !has(Flags::HAS_SOCKET) && !has(Flags::DEAD) => {
            CloseReason::ResetByUsListenerClosed
        }
        (0, Established | CloseWait | FinWait1 | SynRecv) => aborted(end, resets),
        (0, _) => CloseReason::Unknown,

        // All that is left are timeouts, some under the name of the last ICMP error.
        (_, FinWait1 | Closing | LastAck) if has(Flags::DEAD) => CloseReason::TimeoutOrphan,
        // Where it is set, nothing else decides how long to wait.
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

/// We sent RST, and the socket's own condition says why. Unread data comes first in the kernel.
fn aborted(end: &Transition, resets: Resets) -> CloseReason {
    let has = |flag| end.flags.contains(flag);
    if !(has(Flags::SHUT_READ) && has(Flags::SHUT_WRITE)) {
        // close() shuts down both ways first.
        CloseReason::ResetByUsDisconnect
    } else if end.closing.is_some_and(|closing| closing.unread > 0) {
        CloseReason::ResetByUsUnreadData
    } else if has(Flags::LINGER0) {
        CloseReason::ResetByUsLinger0
    } else if !has(Flags::DEAD) {
        CloseReason::Unknown
    } else if resets.sent_unprompted() {
        // The only reason that is left (kernels before 6.10 give none).
        CloseReason::ResetByUsMemory
    } else {
        CloseReason::NamespaceGone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_an_id_of_its_own_and_says_something() {
        for (index, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert_eq!(CloseReason::from_id(reason.id()), Some(*reason));
            let info = reason.info();
            assert!(!info.title.is_empty() && info.meaning.ends_with('.'), "{}", info.id);
            assert!(info.advice.ends_with(['.', '?']), "{}", info.id);
        }
    }
}
