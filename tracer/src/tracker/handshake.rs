//! How long a handshake took, and whether that can be known.

use synfin_common::event::Flags;

use crate::{
    tcp::{
        handshake::{Handshake, Unmeasured},
        role::Role,
    },
    trace::{event::Transition, time::Nanos},
};

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
