//! How long a handshake took, and whether that can be known.

use synfin_common::event::Flags;

use super::machine::Role;
use crate::{
    figure::Words,
    input::{Nanos, Transition},
};

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
    pub const WORDS: Words = Words { name: "cause", all: || Self::ALL.map(Self::name).into() };

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
    pub const WORDS: Words =
        Words { name: "handshake", all: || vec!["clean", "retransmitted", "unmeasured"] };

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

/// Measures the handshake that `established`, the transition to ESTABLISHED, completes.
///
/// The kernel's smoothed round trip at this moment is its first sample: a client's SYN → SYN-ACK,
/// a server's SYN-ACK → ACK, unless something was sent twice (then it is no sample at all, or one
/// of the last try alone).
pub(crate) fn measure(
    role: Role,
    established: &Transition,
    syn_sent: Option<Nanos>,
    deferred_accept: bool,
) -> Handshake {
    let times = established.total_retransmits;
    let us = established.rtt_us;
    if established.flags.contains(Flags::REPAIR) {
        return Handshake::Unmeasured(Unmeasured::Repair);
    }
    match role {
        Role::Client if times > 0 && established.flags.contains(Flags::FAST_OPEN) => {
            Handshake::Unmeasured(Unmeasured::FastOpen)
        }
        Role::Client if times > 0 => match syn_sent {
            Some(sent) => {
                let us = established.time.saturating_sub(sent) / 1000;
                Handshake::Retransmitted { us: u32::try_from(us).unwrap_or(u32::MAX), times }
            }
            None => Handshake::Unmeasured(Unmeasured::EvidenceLost),
        },
        Role::Client if us > 0 => Handshake::Clean { us },
        Role::Client => Handshake::Unmeasured(Unmeasured::EvidenceLost),

        Role::Server if deferred_accept => Handshake::Unmeasured(Unmeasured::DeferredAccept),
        Role::Server if times > 0 => {
            if established.flags.contains(Flags::SINCE_FIRST_SYNACK) {
                Handshake::Retransmitted { us, times }
            } else {
                Handshake::Unmeasured(Unmeasured::EvidenceLost)
            }
        }
        // A cookie carries at most a timestamp of whole milliseconds, off by up to 64 of them.
        // A true time is a multiple of 1,000 µs once in a thousand, and is given up for it.
        Role::Server if us.is_multiple_of(1000) => Handshake::Unmeasured(Unmeasured::SynCookie),
        Role::Server => Handshake::Clean { us },
    }
}
