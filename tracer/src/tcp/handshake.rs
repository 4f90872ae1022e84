//! The result of a handshake: its duration, or why it could not be measured.

use crate::tcp::labels::Enumeration;

/// Why a handshake has no measured duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unmeasured {
    /// The server sent a SYN cookie and kept no state to measure from.
    SynCookie,
    /// The listener has TCP_DEFER_ACCEPT: the kernel ignores the last ACK until data comes.
    DeferredAccept,
    /// A Fast Open connection whose SYN was retransmitted: the first SYN may have been sent long after
    /// connect().
    FastOpen,
    /// A server's subflow that joined an MPTCP connection (MP_JOIN): the kernel takes no time.
    MpJoin,
    /// The connection was restored from a checkpoint (`TCP_REPAIR`), without a handshake.
    Repair,
    /// The evidence was lost, or this kernel does not provide it.
    EvidenceLost,
}

impl Unmeasured {
    /// All causes.
    pub const ALL: [Self; 6] = [
        Self::SynCookie,
        Self::DeferredAccept,
        Self::FastOpen,
        Self::MpJoin,
        Self::Repair,
        Self::EvidenceLost,
    ];

    /// The names of all causes.
    pub const NAMES: Enumeration =
        Enumeration { name: "cause", all: || Self::ALL.map(Self::name).into() };

    /// The name in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynCookie => "syn_cookie",
            Self::DeferredAccept => "deferred_accept",
            Self::FastOpen => "fast_open",
            Self::MpJoin => "mptcp_join",
            Self::Repair => "repair",
            Self::EvidenceLost => "evidence_lost",
        }
    }
}

/// A completed handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Without retransmission: the time of the network and the peer.
    Clean {
        /// Microseconds from SYN to SYN-ACK on a client, from SYN-ACK to ACK on a server.
        us: u32,
    },
    /// The SYN or SYN-ACK was retransmitted: the total time, mostly that of the timer.
    Retransmitted {
        /// Microseconds since the first SYN or SYN-ACK.
        us: u32,
        /// Number of retransmissions, of which the kernel allows 255 at most (`tcp_syn_retries`,
        /// `tcp_synack_retries`).
        times: u16,
    },
    /// The duration is unknown.
    Unmeasured(Unmeasured),
}

impl Handshake {
    /// The names of the classes.
    pub const NAMES: Enumeration =
        Enumeration { name: "handshake", all: || vec!["clean", "retransmitted", "unmeasured"] };

    /// The class in every output.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Clean { .. } => "clean",
            Self::Retransmitted { .. } => "retransmitted",
            Self::Unmeasured(_) => "unmeasured",
        }
    }

    /// The duration in microseconds; `None` if unknown.
    pub const fn us(&self) -> Option<u32> {
        match self {
            Self::Clean { us } | Self::Retransmitted { us, .. } => Some(*us),
            Self::Unmeasured(_) => None,
        }
    }

    /// Number of retransmissions of the SYN or SYN-ACK; `None` if unknown.
    pub const fn retransmits(&self) -> Option<u16> {
        match self {
            Self::Clean { .. } => Some(0),
            Self::Retransmitted { times, .. } => Some(*times),
            Self::Unmeasured(_) => None,
        }
    }
}
