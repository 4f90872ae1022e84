//! How a handshake went, and why one could not be measured.

use crate::tcp::labels::Enumeration;

/// Why a handshake has no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unmeasured {
    /// A SYN cookie: the kernel kept nothing to measure from.
    SynCookie,
    /// The listener defers accept until data comes, so the last ACK was ignored.
    DeferredAccept,
    /// A Fast Open connect whose SYN was sent again: the first may have left long after connect().
    FastOpen,
    /// A checkpoint was restored (`TCP_REPAIR`): there was no handshake.
    Repair,
    /// What would tell was lost, or is not shown by this kernel.
    EvidenceLost,
}

impl Unmeasured {
    /// All causes.
    pub const ALL: [Self; 5] =
        [Self::SynCookie, Self::DeferredAccept, Self::FastOpen, Self::Repair, Self::EvidenceLost];

    /// Their names.
    pub const WORDS: Enumeration =
        Enumeration { name: "cause", all: || Self::ALL.map(Self::name).into() };

    /// The name that every output uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynCookie => "syn_cookie",
            Self::DeferredAccept => "deferred_accept",
            Self::FastOpen => "fast_open",
            Self::Repair => "repair",
            Self::EvidenceLost => "evidence_lost",
        }
    }
}

/// A handshake that is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Nothing was sent twice: the network's and the peer's time.
    Clean {
        /// Client: SYN → SYN-ACK; server: SYN-ACK → ACK. Microseconds.
        us: u32,
    },
    /// The SYN or the SYN-ACK was sent again: the whole time, most of it the retransmission timer.
    Retransmitted {
        /// Microseconds since the first SYN or SYN-ACK.
        us: u32,
        /// How often it was sent again.
        times: u32,
    },
    /// No time is known.
    Unmeasured(Unmeasured),
}

impl Handshake {
    /// The names of the classes.
    pub const WORDS: Enumeration =
        Enumeration { name: "handshake", all: || vec!["clean", "retransmitted", "unmeasured"] };

    /// The class as every output names it.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Clean { .. } => "clean",
            Self::Retransmitted { .. } => "retransmitted",
            Self::Unmeasured(_) => "unmeasured",
        }
    }

    /// Its time in microseconds, if known.
    pub const fn us(&self) -> Option<u32> {
        match self {
            Self::Clean { us } | Self::Retransmitted { us, .. } => Some(*us),
            Self::Unmeasured(_) => None,
        }
    }

    /// How often the SYN or SYN-ACK was sent again, if known.
    pub const fn retransmits(&self) -> Option<u32> {
        match self {
            Self::Clean { .. } => Some(0),
            Self::Retransmitted { times, .. } => Some(*times),
            Self::Unmeasured(_) => None,
        }
    }
}
