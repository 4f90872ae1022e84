//! Why a connection ended: the reasons, what they mean, and how one is decided.
//!
//! Facts about the kernel's evidence are from its source (`net/ipv4/tcp*.c`) and from experiments
//! on 5.10 to 7.x. A new reason is added here: a variant, its [`Info`], an arm of `classify`.

use synfin_common::{event::Flags, reset::ResetReason, state::TcpState};

use super::machine::Role;
use crate::{
    figure::Words,
    input::{Remains, ResetWay, Transition},
};

/// How bad a reason is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The textbook.
    Normal,
    /// Often deliberate.
    Notable,
    /// Something went wrong.
    Abnormal,
    /// Not known.
    Unknown,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 4] = [Self::Normal, Self::Notable, Self::Abnormal, Self::Unknown];

    /// Their names.
    pub const WORDS: Words = Words { name: "class", all: || Self::ALL.map(Self::name).into() };

    /// The name that every output uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Notable => "notable",
            Self::Abnormal => "abnormal",
            Self::Unknown => "unknown",
        }
    }

    /// What it says.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Normal => "as in the textbook",
            Self::Notable => "often deliberate",
            Self::Abnormal => "something went wrong",
            Self::Unknown => "what happened is not known",
        }
    }
}

/// Which sum a reason belongs to: never both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The connection was never established.
    Failed,
    /// It was.
    Closed,
}

impl Outcome {
    /// The figure that is the sum.
    pub const fn sum(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Closed => "closed",
        }
    }

    /// What it says.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Failed => "never established",
            Self::Closed => "established, and ended",
        }
    }
}

/// What is said about a reason.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// The public name, in every output.
    pub id: &'static str,
    /// A few words.
    pub title: &'static str,
    /// What happened on the wire and in the kernel.
    pub meaning: &'static str,
    /// What to look at.
    pub advice: &'static str,
    /// How bad it is.
    pub class: Class,
    /// The sum that it belongs to.
    pub outcome: Outcome,
}

macro_rules! reasons {
    ($($variant:ident $id:literal $class:ident $outcome:ident, $title:literal
        $meaning:literal $advice:literal;)*) => {
        /// Why a connection ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum CloseReason {
            $(#[doc = $title] $variant,)*
        }

        impl CloseReason {
            /// All reasons, failures first.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// What is said about it.
            pub const fn info(self) -> &'static Info {
                match self {
                    $(Self::$variant => &Info {
                        id: $id,
                        title: $title,
                        meaning: $meaning,
                        advice: $advice,
                        class: Class::$class,
                        outcome: Outcome::$outcome,
                    },)*
                }
            }
        }
    };
}

reasons! {
    ConnectRefusedRst "connect_refused_rst" Abnormal Failed, "refused by a reset"
        "The SYN was answered with RST: nobody listens on that port, or a filter answers for it."
        "Is the service up, and on this address and port?";
    ConnectRefusedIcmp "connect_refused_icmp" Abnormal Failed, "refused by ICMP"
        "The SYN was answered with ICMP port or protocol unreachable: usually a firewall that rejects."
        "Look for a REJECT rule on the way.";
    ConnectTimeout "connect_timeout" Abnormal Failed, "no answer to any SYN"
        "Every SYN went unanswered until the kernel gave up (tcp_syn_retries)."
        "A firewall that drops, a dead host, or a listener whose queue overflows.";
    ConnectUnreachableHost "connect_unreachable_host" Abnormal Failed, "host unreachable"
        "ICMP host unreachable: the last router could not find the host, or a firewall says so."
        "Is the host up, and its neighbour entry resolved?";
    ConnectUnreachableNet "connect_unreachable_net" Abnormal Failed, "network unreachable"
        "ICMP network unreachable: a router has no route."
        "Check the routes, here and on the way.";
    ConnectLocalFailure "connect_local_failure" Abnormal Failed, "no port or address was left"
        "connect() failed on this host before any SYN: no free port toward that destination, usually."
        "Reuse connections, or widen net.ipv4.ip_local_port_range.";
    ConnectCancelled "connect_cancelled" Notable Failed, "given up by the application"
        "The application closed the socket, or was killed, while the SYN was unanswered."
        "A connect timeout of the application's own; compare it with the handshake times.";
    ConnectDestroyed "connect_destroyed" Notable Failed, "destroyed while connecting"
        "An administrator (ss -K) or a BPF program destroyed the socket before the handshake was through."
        "Find out who runs it.";
    HandshakeAborted "handshake_aborted" Abnormal Failed, "the handshake failed at its last step"
        "The connection was in SYN_RECV (Fast Open or a simultaneous open) and was reset or timed out there."
        "Look at the peer, and at what is between.";
    ConnectLostSight "connect_lost_sight" Unknown Failed, "lost from sight while connecting"
        "Events were lost, and when the sockets were walked the attempt was gone: how it ended is not known."
        "Give synfin a larger ring buffer if events are lost often.";
    ConnectUnknown "connect_unknown" Unknown Failed, "failed in a way that is not known"
        "The kernel gave an error that synfin does not know for a connect."
        "Please report it, with the kernel's version.";

    ClosedByUs "closed_by_us" Normal Closed, "closed by us"
        "We sent the first FIN and the peer agreed; we go through TIME_WAIT."
        "Nothing to do. Many of these per second fill TIME_WAIT: let the other side close first, or reuse connections.";
    ClosedByPeer "closed_by_peer" Normal Closed, "closed by the peer"
        "The peer sent the first FIN, we followed; TIME_WAIT is on its side."
        "Nothing to do.";
    ClosedByBoth "closed_by_both" Normal Closed, "closed by both at once"
        "Both sides sent a FIN before they saw the other's; both go through TIME_WAIT."
        "Nothing to do.";
    ResetByPeer "reset_by_peer" Abnormal Closed, "reset by the peer"
        "An RST arrived while the connection was in use (ESTABLISHED or CLOSE_WAIT)."
        "The peer crashed, closed with unread data, or something between forgot the connection: compare the idle time.";
    ResetByPeerClosing "reset_by_peer_closing" Notable Closed, "reset by the peer while closing"
        "An RST arrived after we had begun to close: often a peer that does not wait for the end."
        "Harmless, unless data was still on its way to the peer.";
    ResetByUsUnreadData "reset_by_us_unread_data" Abnormal Closed, "reset by us: unread data"
        "The application closed the socket with received data that it had not read: the kernel sends RST, and the peer may lose what we sent."
        "Read until the end before closing, or shut down for writing first.";
    ResetByUsDataAfterClose "reset_by_us_data_after_close" Abnormal Closed, "reset by us: data after close"
        "The peer sent data after our application had closed the socket: nobody is left to read it, and the kernel answers with RST."
        "Read until the peer's end before closing, or agree on who ends the conversation.";
    ResetByUsMemory "reset_by_us_memory" Abnormal Closed, "reset by us: out of memory for sockets"
        "The application had closed the socket, and the kernel gave it up: too many orphans (tcp_max_orphans), or too little socket memory (tcp_mem)."
        "Look at `dmesg`, the number of orphans in /proc/net/sockstat, and at peers that do not finish.";
    ResetByUsListenerClosed "reset_by_us_listener_closed" Abnormal Closed, "reset by us: never accepted"
        "The listener was closed while this connection waited in its accept queue."
        "On a restart, hand the listener over (socket activation) or drain it first.";
    ResetByUsLinger0 "reset_by_us_linger0" Notable Closed, "reset by us: SO_LINGER 0"
        "The application closed the socket with SO_LINGER set to zero, which asks for RST."
        "Deliberate, often to avoid TIME_WAIT; the peer may lose data.";
    ResetByUsDisconnect "reset_by_us_disconnect" Notable Closed, "reset by us: disconnected"
        "The application dissolved the connection by connect(AF_UNSPEC)."
        "Deliberate.";
    ResetByUsLinger2 "reset_by_us_linger2" Notable Closed, "reset by us: TCP_LINGER2"
        "TCP_LINGER2 is negative: we did not wait for the peer's FIN."
        "Deliberate.";
    TimeoutRetransmission "timeout_retransmission" Abnormal Closed, "timed out: data not acknowledged"
        "Sent data was retransmitted until the kernel gave up (tcp_retries2)."
        "The peer or the path is gone.";
    TimeoutKeepalive "timeout_keepalive" Abnormal Closed, "timed out: keepalive not answered"
        "Keepalive probes on an idle connection went unanswered."
        "The peer is gone, or something between dropped the idle connection: compare the idle time.";
    TimeoutUser "timeout_user" Abnormal Closed, "timed out: TCP_USER_TIMEOUT"
        "Data, probes or keepalives went unanswered for as long as the application allows (TCP_USER_TIMEOUT)."
        "The peer or the path is gone, or the limit is short: compare it with the round trip and the idle time.";
    TimeoutZeroWindow "timeout_zero_window" Abnormal Closed, "timed out: the peer's window stayed closed"
        "The peer had closed its receive window, and then answered no probe of it."
        "The peer's application had stopped reading before it, or its host, was gone.";
    TimeoutOrphan "timeout_orphan" Abnormal Closed, "timed out after close"
        "Nobody held the socket any more, and our FIN was never acknowledged (FIN_WAIT1, CLOSING or LAST_ACK), or the peer's never came (FIN_WAIT2)."
        "The peer or the path was gone when we closed.";
    DestroyedByAdmin "destroyed_by_admin" Notable Closed, "destroyed by an administrator"
        "ss -K or a BPF program destroyed the connection, or a checkpoint took it away (TCP_REPAIR)."
        "Find out who runs it.";
    NamespaceGone "namespace_gone" Notable Closed, "its network namespace went away"
        "The kernel dropped the connection without a segment, because its network namespace was being removed."
        "A container was stopped: nothing to do, unless the peers mind.";
    LostSight "lost_sight" Unknown Closed, "lost from sight"
        "Events were lost, or the connection table was full, and the connection was gone when the sockets were walked."
        "Give synfin a larger ring buffer if events are lost often.";
    Unknown "unknown" Unknown Closed, "not known"
        "The kernel shows too little to tell."
        "A rise of these is worth a report, with the kernel's version.";
}

impl CloseReason {
    /// The ids of all.
    pub const WORDS: Words =
        Words { name: "reason", all: || Self::ALL.iter().map(|reason| reason.id()).collect() };

    /// The ids of those that connections fail for.
    pub const FAILURES: Words = Words { name: "reason", all: || Self::ids(Outcome::Failed) };

    /// The ids of those that established connections end for.
    pub const CLOSES: Words = Words { name: "reason", all: || Self::ids(Outcome::Closed) };

    fn ids(outcome: Outcome) -> Vec<&'static str> {
        let reasons = Self::ALL.iter().filter(|reason| reason.outcome() == outcome);
        reasons.map(|reason| reason.id()).collect()
    }

    /// The public name.
    pub const fn id(self) -> &'static str {
        self.info().id
    }

    /// How bad it is.
    pub const fn class(self) -> Class {
        self.info().class
    }

    /// The sum that it belongs to.
    pub const fn outcome(self) -> Outcome {
        self.info().outcome
    }

    /// The reason with this id.
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.id() == id)
    }

    /// Its place in [`Self::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

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
    Doubtful,
}

impl TimeWait {
    /// Something is left behind.
    pub(crate) const fn is_entered(self) -> bool {
        matches!(self, Self::Entered | Self::InFinWait2)
    }
}

/// How an end is to be booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The connection ended.
    Ended(CloseReason, TimeWait),
    /// It never was one: a child that lost a race within the kernel.
    Discarded,
}

impl Verdict {
    /// What is left behind.
    pub(crate) const fn time_wait(self) -> TimeWait {
        match self {
            Self::Ended(_, time_wait) => time_wait,
            Self::Discarded => TimeWait::None,
        }
    }
}

/// What the life up to its end adds to the evidence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Past {
    pub(crate) role: Role,
    /// The handshake was through.
    pub(crate) established: bool,
    /// Which resets there were.
    pub(crate) resets: Resets,
    /// What it left behind; `None` if nothing has shown that: none was due, the kernel does not
    /// show it, or the record was lost.
    pub(crate) remains: Option<Remains>,
}

/// The resets of a life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resets {
    /// The kernel accepted one, or treated data as one that came after close().
    received: bool,
    /// The last that we sent, and whether it was in answer to a segment.
    sent: Option<(ResetReason, bool)>,
}

impl Resets {
    pub(crate) fn note(&mut self, way: ResetWay) {
        match way {
            ResetWay::Received => self.received = true,
            ResetWay::Sent { reason, answer } => self.sent = Some((reason, answer)),
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
    const fn volunteered(self) -> bool {
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

/// Decides why a life ended from its last transition, which is to CLOSE, and its past.
pub(crate) fn classify(end: &Transition, past: Past) -> Verdict {
    if !past.established {
        return match end.old {
            TcpState::SynSent => Verdict::Ended(failed_connect(end, past), TimeWait::None),
            // A child in the kernel's hands that lost the race for its place in the hash table. (A
            // Fast Open child that nobody accepted is reset with its listener.)
            _ if past.role == Role::Server
                && end.err == 0
                && !past.resets.sent()
                && !end.flags.contains(Flags::HAS_SOCKET) =>
            {
                Verdict::Discarded
            }
            _ => Verdict::Ended(CloseReason::HandshakeAborted, TimeWait::None),
        };
    }
    let reason = closed(end, past.resets);
    let is_due = matches!(reason, CloseReason::ClosedByUs | CloseReason::ClosedByBoth);
    let time_wait = match past.remains {
        Some(remains) => match remains {
            Remains::TimeWait => TimeWait::Entered,
            Remains::FinWait2 => TimeWait::InFinWait2,
            Remains::Nothing if is_due => TimeWait::Overflowed,
            Remains::Nothing => TimeWait::None,
        },
        // The kernel asks for a TIME_WAIT and reports →CLOSE whether it got one or not.
        None if is_due && end.flags.contains(Flags::TIME_WAIT_FULL) => TimeWait::Doubtful,
        None if is_due => TimeWait::Entered,
        None => TimeWait::None,
    };
    Verdict::Ended(reason, time_wait)
}

fn failed_connect(end: &Transition, past: Past) -> CloseReason {
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
pub(crate) fn awaits_reset(end: &Transition, past: Past) -> bool {
    use TcpState::{Closing, FinWait1, FinWait2, LastAck, SynRecv};
    let has_remains = matches!(past.remains, Some(Remains::TimeWait | Remains::FinWait2));
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
        (0, FinWait2) if resets.volunteered() => CloseReason::TimeoutOrphan,
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
        (_, _) if resets.volunteered() => CloseReason::TimeoutKeepalive,
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
    } else if resets.volunteered() {
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
