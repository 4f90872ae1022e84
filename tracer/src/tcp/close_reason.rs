//! Why connections end: the reasons, their classes, what they mean and what to do.
//!
//! A new reason is added here (a variant and its [`Info`]) and in `tracker/classify.rs`, which decides.

use crate::tcp::labels::Enumeration;

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
    pub const WORDS: Enumeration =
        Enumeration { name: "class", all: || Self::ALL.map(Self::name).into() };

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
pub enum Phase {
    /// The connection was never established.
    Handshake,
    /// It was.
    Established,
}

impl Phase {
    /// The figure that is the sum.
    pub const fn sum(self) -> &'static str {
        match self {
            Self::Handshake => "failed",
            Self::Established => "closed",
        }
    }

    /// What it says.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Handshake => "never established",
            Self::Established => "established, and ended",
        }
    }
}

/// What is said about a reason.
#[derive(Clone, Copy, Debug)]
pub struct ReasonInfo {
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
    pub phase: Phase,
}

macro_rules! reasons {
    ($($variant:ident $id:literal $class:ident $phase:ident, $title:literal
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
            pub const fn info(self) -> &'static ReasonInfo {
                match self {
                    $(Self::$variant => &ReasonInfo {
                        id: $id,
                        title: $title,
                        meaning: $meaning,
                        advice: $advice,
                        class: Class::$class,
                        phase: Phase::$phase,
                    },)*
                }
            }
        }
    };
}

reasons! {
    ConnectRefusedRst "connect_refused_rst" Abnormal Handshake, "refused by a reset"
        "The SYN was answered with RST: nobody listens on that port, or a filter answers for it."
        "Is the service up, and on this address and port?";
    ConnectRefusedIcmp "connect_refused_icmp" Abnormal Handshake, "refused by ICMP"
        "The SYN was answered with ICMP port or protocol unreachable: usually a firewall that rejects."
        "Look for a REJECT rule on the way.";
    ConnectTimeout "connect_timeout" Abnormal Handshake, "no answer to any SYN"
        "Every SYN went unanswered until the kernel gave up (tcp_syn_retries)."
        "A firewall that drops, a dead host, or a listener whose queue overflows.";
    ConnectUnreachableHost "connect_unreachable_host" Abnormal Handshake, "host unreachable"
        "ICMP host unreachable: the last router could not find the host, or a firewall says so."
        "Is the host up, and its neighbour entry resolved?";
    ConnectUnreachableNet "connect_unreachable_net" Abnormal Handshake, "network unreachable"
        "ICMP network unreachable: a router has no route."
        "Check the routes, here and on the way.";
    ConnectLocalFailure "connect_local_failure" Abnormal Handshake, "no port or address was left"
        "connect() failed on this host before any SYN: no free port toward that destination, usually."
        "Reuse connections, or widen net.ipv4.ip_local_port_range.";
    ConnectCancelled "connect_cancelled" Notable Handshake, "given up by the application"
        "The application closed the socket, or was killed, while the SYN was unanswered."
        "A connect timeout of the application's own; compare it with the handshake times.";
    ConnectDestroyed "connect_destroyed" Notable Handshake, "destroyed while connecting"
        "An administrator (ss -K) or a BPF program destroyed the socket before the handshake was through."
        "Find out who runs it.";
    HandshakeAborted "handshake_aborted" Abnormal Handshake, "the handshake failed at its last step"
        "The connection was in SYN_RECV (Fast Open or a simultaneous open) and was reset or timed out there."
        "Look at the peer, and at what is between.";
    ConnectLostSight "connect_lost_sight" Unknown Handshake, "lost from sight while connecting"
        "Events were lost, and when the sockets were walked the attempt was gone: how it ended is not known."
        "Give synfin a larger ring buffer if events are lost often.";
    ConnectUnknown "connect_unknown" Unknown Handshake, "failed in a way that is not known"
        "The kernel gave an error that synfin does not know for a connect."
        "Please report it, with the kernel's version.";

    ClosedByUs "closed_by_us" Normal Established, "closed by us"
        "We sent the first FIN and the peer agreed; we go through TIME_WAIT."
        "Nothing to do. Many of these per second fill TIME_WAIT: let the other side close first, or reuse connections.";
    ClosedByPeer "closed_by_peer" Normal Established, "closed by the peer"
        "The peer sent the first FIN, we followed; TIME_WAIT is on its side."
        "Nothing to do.";
    ClosedByBoth "closed_by_both" Normal Established, "closed by both at once"
        "Both sides sent a FIN before they saw the other's; both go through TIME_WAIT."
        "Nothing to do.";
    ResetByPeer "reset_by_peer" Abnormal Established, "reset by the peer"
        "An RST arrived while the connection was in use (ESTABLISHED or CLOSE_WAIT)."
        "The peer crashed, closed with unread data, or something between forgot the connection: compare the idle time.";
    ResetByPeerClosing "reset_by_peer_closing" Notable Established, "reset by the peer while closing"
        "An RST arrived after we had begun to close: often a peer that does not wait for the end."
        "Harmless, unless data was still on its way to the peer.";
    ResetByUsUnreadData "reset_by_us_unread_data" Abnormal Established, "reset by us: unread data"
        "The application closed the socket with received data that it had not read: the kernel sends RST, and the peer may lose what we sent."
        "Read until the end before closing, or shut down for writing first.";
    ResetByUsDataAfterClose "reset_by_us_data_after_close" Abnormal Established, "reset by us: data after close"
        "The peer sent data after our application had closed the socket: nobody is left to read it, and the kernel answers with RST."
        "Read until the peer's end before closing, or agree on who ends the conversation.";
    ResetByUsMemory "reset_by_us_memory" Abnormal Established, "reset by us: out of memory for sockets"
        "The application had closed the socket, and the kernel gave it up: too many orphans (tcp_max_orphans), or too little socket memory (tcp_mem)."
        "Look at `dmesg`, the number of orphans in /proc/net/sockstat, and at peers that do not finish.";
    ResetByUsListenerClosed "reset_by_us_listener_closed" Abnormal Established, "reset by us: never accepted"
        "The listener was closed while this connection waited in its accept queue."
        "On a restart, hand the listener over (socket activation) or drain it first.";
    ResetByUsLinger0 "reset_by_us_linger0" Notable Established, "reset by us: SO_LINGER 0"
        "The application closed the socket with SO_LINGER set to zero, which asks for RST."
        "Deliberate, often to avoid TIME_WAIT; the peer may lose data.";
    ResetByUsDisconnect "reset_by_us_disconnect" Notable Established, "reset by us: disconnected"
        "The application dissolved the connection by connect(AF_UNSPEC)."
        "Deliberate.";
    ResetByUsLinger2 "reset_by_us_linger2" Notable Established, "reset by us: TCP_LINGER2"
        "TCP_LINGER2 is negative: we did not wait for the peer's FIN."
        "Deliberate.";
    TimeoutRetransmission "timeout_retransmission" Abnormal Established, "timed out: data not acknowledged"
        "Sent data was retransmitted until the kernel gave up (tcp_retries2)."
        "The peer or the path is gone.";
    TimeoutKeepalive "timeout_keepalive" Abnormal Established, "timed out: keepalive not answered"
        "Keepalive probes on an idle connection went unanswered."
        "The peer is gone, or something between dropped the idle connection: compare the idle time.";
    TimeoutUser "timeout_user" Abnormal Established, "timed out: TCP_USER_TIMEOUT"
        "Data, probes or keepalives went unanswered for as long as the application allows (TCP_USER_TIMEOUT)."
        "The peer or the path is gone, or the limit is short: compare it with the round trip and the idle time.";
    TimeoutZeroWindow "timeout_zero_window" Abnormal Established, "timed out: the peer's window stayed closed"
        "The peer had closed its receive window, and then answered no probe of it."
        "The peer's application had stopped reading before it, or its host, was gone.";
    TimeoutOrphan "timeout_orphan" Abnormal Established, "timed out after close"
        "Nobody held the socket any more, and our FIN was never acknowledged (FIN_WAIT1, CLOSING or LAST_ACK), or the peer's never came (FIN_WAIT2)."
        "The peer or the path was gone when we closed.";
    DestroyedByAdmin "destroyed_by_admin" Notable Established, "destroyed by an administrator"
        "ss -K or a BPF program destroyed the connection, or a checkpoint took it away (TCP_REPAIR)."
        "Find out who runs it.";
    NamespaceGone "namespace_gone" Notable Established, "its network namespace went away"
        "The kernel dropped the connection without a segment, because its network namespace was being removed."
        "A container was stopped: nothing to do, unless the peers mind.";
    LostSight "lost_sight" Unknown Established, "lost from sight"
        "Events were lost, or the connection table was full, and the connection was gone when the sockets were walked."
        "Give synfin a larger ring buffer if events are lost often.";
    Unknown "unknown" Unknown Established, "not known"
        "The kernel shows too little to tell."
        "A rise of these is worth a report, with the kernel's version.";
}

impl CloseReason {
    /// The ids of all.
    pub const WORDS: Enumeration = Enumeration {
        name: "reason",
        all: || Self::ALL.iter().map(|reason| reason.id()).collect(),
    };

    /// The ids of those that connections fail for.
    pub const FAILURES: Enumeration =
        Enumeration { name: "reason", all: || Self::ids(Phase::Handshake) };

    /// The ids of those that established connections end for.
    pub const CLOSES: Enumeration =
        Enumeration { name: "reason", all: || Self::ids(Phase::Established) };

    fn ids(outcome: Phase) -> Vec<&'static str> {
        let reasons = Self::ALL.iter().filter(|reason| reason.phase() == outcome);
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
    pub const fn phase(self) -> Phase {
        self.info().phase
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
