//! Measures handshakes.

use synfin_common::event::Flags;

use crate::{
    tcp::{
        handshake::{Handshake, Unmeasured},
        role::Role,
    },
    trace::{event::Transition, time::Nanos},
};

/// Measures the handshake that `established`, the transition to ESTABLISHED, completes. `syn_sent`
/// is the time at which connect() sent the first SYN; `None` if that was not observed. `may_be_cookie`:
/// the listener has sent SYN cookies, or that is not known.
///
/// At this transition the kernel's smoothed round trip time (`srtt_us`) is its first sample: SYN to
/// SYN-ACK on a client, SYN-ACK to ACK on a server. After a retransmission there is no sample, or
/// one of the last attempt alone.
pub(crate) fn measure(
    role: Role,
    established: &Transition,
    syn_sent: Option<Nanos>,
    deferred_accept: bool,
    may_be_cookie: bool,
) -> Handshake {
    let times = u16::try_from(established.total_retransmits).unwrap_or(u16::MAX);
    let us = established.rtt_us;
    if established.flags.contains(Flags::REPAIR) {
        return Handshake::Unmeasured(Unmeasured::Repair);
    }
    match role {
        Role::Unknown => Handshake::Unmeasured(Unmeasured::EvidenceLost),

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
        // With a SYN cookie there is no time, or that of a timestamp in whole milliseconds, off by up to
        // 64. One in a thousand measured times is such a multiple, and counts as unmeasured too.
        Role::Server if may_be_cookie && us.is_multiple_of(1000) => {
            Handshake::Unmeasured(Unmeasured::SynCookie)
        }
        Role::Server if us == 0 => Handshake::Unmeasured(Unmeasured::EvidenceLost),
        Role::Server => Handshake::Clean { us },
    }
}
