//! Close reasons: why connections end, what each reason means and what to do about it.
//!
//! A new reason begins with a variant and its [`ReasonInfo`] in the table below; CONTRIBUTING.md lists
//! the other files.

use crate::tcp::labels::Enumeration;

/// How serious a reason is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A regular close.
    Normal,
    /// Unusual, but often deliberate.
    Notable,
    /// Something went wrong.
    Abnormal,
    /// The reason is not known.
    Unknown,
}

impl Class {
    /// All classes, in the order of the reports.
    pub const ALL: [Self; 4] = [Self::Normal, Self::Notable, Self::Abnormal, Self::Unknown];

    /// The names of all classes.
    pub const NAMES: Enumeration =
        Enumeration { name: "class", all: || Self::ALL.map(Self::name).into() };

    /// The name in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Notable => "notable",
            Self::Abnormal => "abnormal",
            Self::Unknown => "unknown",
        }
    }

    /// A short explanation for the user.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Normal => "a regular close",
            Self::Notable => "often deliberate",
            Self::Abnormal => "something went wrong",
            Self::Unknown => "the reason is not known",
        }
    }
}

/// The phase in which a connection ended; each reason belongs to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Before it was established.
    Handshake,
    /// After it was established.
    Established,
}

impl Phase {
    /// The column that holds the sum over the phase.
    pub const fn sum(self) -> &'static str {
        match self {
            Self::Handshake => "failed",
            Self::Established => "closed",
        }
    }

    /// A short explanation for the user.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Handshake => "never established",
            Self::Established => "closed after it was established",
        }
    }
}

/// The texts and properties of a reason.
#[derive(Clone, Copy, Debug)]
pub struct ReasonInfo {
    /// The public name in every output; never changes.
    pub id: &'static str,
    /// A title for reports.
    pub title: &'static str,
    /// What happened on the wire and in the kernel.
    pub meaning: &'static str,
    /// What to check or change.
    pub advice: &'static str,
    /// How serious it is.
    pub class: Class,
    /// The phase in which it ends connections.
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

            /// The texts and properties of the reason.
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
    ConnectRefusedRst "connect_refused_rst" Abnormal Handshake, "refused with a reset"
        "The peer answered the SYN with RST: nothing listens on that port, or a firewall answers for it."
        "Check that the service is up and listens on this address and port.";
    ConnectRefusedIcmp "connect_refused_icmp" Abnormal Handshake, "refused with ICMP"
        "The answer to the SYN was ICMP port or protocol unreachable, usually from a firewall that rejects."
        "Look for a REJECT rule on the path.";
    ConnectTimeout "connect_timeout" Abnormal Handshake, "no answer to any SYN"
        "Every SYN went unanswered until the kernel gave up (tcp_syn_retries)."
        "Look for a firewall that drops SYNs, a host that is down, or a listener whose queue overflows.";
    ConnectUnreachableHost "connect_unreachable_host" Abnormal Handshake, "host unreachable"
        "ICMP host unreachable: the last router could not find the host, or a firewall answered so."
        "Check that the host is up and that its neighbour entry is resolved (`ip neigh`).";
    ConnectUnreachableNet "connect_unreachable_net" Abnormal Handshake, "network unreachable"
        "ICMP network unreachable: a router has no route."
        "Check the routes on this host and on the path.";
    ConnectLocalFailure "connect_local_failure" Abnormal Handshake, "no local port or address"
        "connect() failed on this host before it sent a SYN, usually because no ephemeral port was free toward that destination."
        "Reuse connections, or widen net.ipv4.ip_local_port_range.";
    ConnectCancelled "connect_cancelled" Notable Handshake, "cancelled by the application"
        "The application closed the socket or was killed before its first SYN was answered or sent again."
        "Compare the application's connect timeout with the handshake times.";
    ConnectAbandoned "connect_abandoned" Abnormal Handshake, "given up by the application"
        "The application closed the socket or was killed after SYNs had been sent again without an answer."
        "Look for a firewall that drops SYNs, a host that is down, or a listener whose queue overflows; a longer timeout of the application rarely helps.";
    ConnectDestroyed "connect_destroyed" Notable Handshake, "destroyed while connecting"
        "An administrator (ss -K) or a BPF program destroyed the socket before the handshake was complete."
        "Find out who ran it.";
    HandshakeAborted "handshake_aborted" Abnormal Handshake, "failed in the last step of the handshake"
        "The connection was reset or timed out in SYN_RECV (Fast Open or simultaneous open)."
        "Check the peer and the path.";
    ConnectLostSight "connect_lost_sight" Unknown Handshake, "end not observed, while connecting"
        "Events were lost, and a scan of all sockets no longer found the attempt: its outcome is unknown."
        "If events are lost often, give synfin a larger ring buffer.";
    ConnectUnknown "connect_unknown" Unknown Handshake, "failed for an unknown reason"
        "The kernel returned an error that synfin does not know for connect()."
        "Please report it with the kernel version.";

    ClosedByUs "closed_by_us" Normal Established, "closed by us"
        "This host sent the first FIN and the peer followed; TIME_WAIT is on this host."
        "Nothing to do. Many of these per second fill the TIME_WAIT table: let the peer close first, or reuse connections.";
    ClosedByPeer "closed_by_peer" Normal Established, "closed by the peer"
        "The peer sent the first FIN and this host followed; TIME_WAIT is on the peer."
        "Nothing to do.";
    ClosedByBoth "closed_by_both" Normal Established, "closed by both sides at once"
        "Both sides sent a FIN before they received the other's; TIME_WAIT is on both."
        "Nothing to do.";
    ResetByPeer "reset_by_peer" Abnormal Established, "reset by the peer"
        "An RST arrived while the connection was in use (ESTABLISHED or CLOSE_WAIT)."
        "The peer crashed or closed with unread data, or a device on the path dropped the connection's state: compare the idle time.";
    ResetByPeerClosing "reset_by_peer_closing" Notable Established, "reset by the peer while closing"
        "An RST arrived after this host had begun to close, often from a peer that does not complete the exchange of FINs."
        "Nothing to do, unless data was still on its way to the peer.";
    ResetByUsUnreadData "reset_by_us_unread_data" Abnormal Established, "reset by us: unread data"
        "The application closed the socket without reading all received data: the kernel sends RST, and the peer may lose data that was sent to it."
        "Read to the end before closing, or call shutdown(SHUT_WR) first.";
    ResetByUsDataAfterClose "reset_by_us_data_after_close" Abnormal Established, "reset by us: data after close"
        "The peer sent data after the local application had closed the socket: nothing can read it, so the kernel answers with RST."
        "Read until the peer closes before closing, or let the protocol define who closes first.";
    ResetByUsMemory "reset_by_us_memory" Abnormal Established, "reset by us: out of memory for sockets"
        "The application had closed the socket, and the kernel dropped it: too many orphans (tcp_max_orphans) or too little socket memory (tcp_mem)."
        "Check `dmesg`, the number of orphans in /proc/net/sockstat, and peers that never close.";
    ResetByUsListenerClosed "reset_by_us_listener_closed" Abnormal Established, "reset by us: never accepted"
        "The listener was closed while this connection waited in its accept queue."
        "On a restart, pass the listener on (socket activation) or drain its queue first.";
    ResetByUsLinger0 "reset_by_us_linger0" Notable Established, "reset by us: SO_LINGER 0"
        "The application closed the socket with SO_LINGER set to 0, which makes the kernel send RST."
        "Deliberate, often to avoid TIME_WAIT; the peer may lose data.";
    ResetByUsDisconnect "reset_by_us_disconnect" Notable Established, "reset by us: disconnected"
        "The application disconnected the socket with connect(AF_UNSPEC)."
        "Deliberate.";
    ResetByUsLinger2 "reset_by_us_linger2" Notable Established, "reset by us: TCP_LINGER2"
        "TCP_LINGER2 is negative: this host did not wait for the peer's FIN."
        "Deliberate.";
    ResetByUsMptcp "reset_by_us_mptcp" Abnormal Established, "reset by us: MPTCP"
        "MPTCP on this host reset this subflow, and the kernel does not show why: the application closed with unread data or SO_LINGER 0, the exchange of DATA_FINs took too long (net.mptcp.close_timeout), or the peer broke the protocol."
        "Look at the other subflows of the connection and at `nstat -az 'MPTcp*'`.";
    TimeoutRetransmission "timeout_retransmission" Abnormal Established, "timed out: data not acknowledged"
        "The kernel retransmitted data until it gave up (tcp_retries2)."
        "The peer or the path is down.";
    TimeoutKeepalive "timeout_keepalive" Abnormal Established, "timed out: keepalive not answered"
        "Keepalive probes on an idle connection went unanswered."
        "The peer is down, or a device on the path dropped the idle connection: compare the idle time.";
    TimeoutUser "timeout_user" Abnormal Established, "timed out: TCP_USER_TIMEOUT"
        "Data, probes or keepalives went unanswered for as long as the application allows (TCP_USER_TIMEOUT)."
        "The peer or the path is down, or the timeout is too short: compare it with the round-trip time and the idle time.";
    TimeoutZeroWindow "timeout_zero_window" Abnormal Established, "timed out: the peer's window stayed closed"
        "The peer had closed its receive window and then stopped answering window probes."
        "The peer's application had stopped reading before it or its host went down.";
    TimeoutOrphan "timeout_orphan" Abnormal Established, "timed out after close"
        "No process held the socket any more, and the local FIN was never acknowledged (FIN_WAIT1, CLOSING or LAST_ACK) or the peer's FIN never came (FIN_WAIT2)."
        "The peer or the path was down when this host closed.";
    DestroyedByAdmin "destroyed_by_admin" Notable Established, "destroyed by an administrator"
        "ss -K or a BPF program destroyed the connection, or a checkpoint removed it (TCP_REPAIR)."
        "Find out who ran it.";
    NamespaceGone "namespace_gone" Notable Established, "network namespace removed"
        "The kernel dropped the connection without sending a segment because its network namespace was being removed."
        "Nothing to do if a container was stopped; the peers notice only when they send or time out.";
    LostSight "lost_sight" Unknown Established, "end not observed"
        "Events were lost or the connection table was full, and a scan of all sockets no longer found the connection."
        "If events are lost often, give synfin a larger ring buffer.";
    Unknown "unknown" Unknown Established, "not known"
        "The kernel's evidence fits no known reason."
        "If their number rises, please report it with the kernel version.";
}

impl CloseReason {
    /// The ids of all reasons.
    pub const NAMES: Enumeration = Enumeration {
        name: "reason",
        all: || Self::ALL.iter().map(|reason| reason.id()).collect(),
    };

    /// The ids of the reasons for which connections fail before they are established.
    pub const FAILURES: Enumeration =
        Enumeration { name: "reason", all: || Self::ids(Phase::Handshake) };

    /// The ids of the reasons for which established connections end.
    pub const CLOSES: Enumeration =
        Enumeration { name: "reason", all: || Self::ids(Phase::Established) };

    fn ids(phase: Phase) -> Vec<&'static str> {
        let reasons = Self::ALL.iter().filter(|reason| reason.phase() == phase);
        reasons.map(|reason| reason.id()).collect()
    }

    /// The public name.
    pub const fn id(self) -> &'static str {
        self.info().id
    }

    /// How serious it is.
    pub const fn class(self) -> Class {
        self.info().class
    }

    /// The phase in which it ends connections.
    pub const fn phase(self) -> Phase {
        self.info().phase
    }

    /// The reason with this id; `None` if there is none.
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.id() == id)
    }

    /// Its index in [`Self::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}
