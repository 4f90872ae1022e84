//! The segments with data that connections of a row have sent while they were watched.
//!
//! A scan shows what each open connection has sent since it began, and its last record what it had sent
//! in all. So that no counters are kept for each connection, sums over all connections of a row are
//! compared.

use std::ops::{Add, AddAssign};

use crate::{tcp::handshake::Handshake, trace::event::Transition};

/// Segments with data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    /// Segments that were sent, again or for the first time.
    pub sent: u64,
    /// Segments that were sent again.
    pub retransmitted: u64,
}

impl Segments {
    /// The segments of a connection by the kernel's counts, of which that of retransmissions includes
    /// SYNs.
    pub(super) fn new(sent: u32, total_retransmits: u32, handshake: Option<Handshake>) -> Self {
        let of_handshake = handshake.and_then(|handshake| handshake.retransmits()).unwrap_or(0);
        let retransmitted = total_retransmits.saturating_sub(of_handshake.into()).min(sent);
        Self { sent: sent.into(), retransmitted: retransmitted.into() }
    }

    /// The segments of a connection that has ended.
    pub(super) fn at_end(end: &Transition, handshake: Option<Handshake>) -> Self {
        let sent = end.closing.map_or(0, |closing| closing.segments_sent);
        Self::new(sent, end.total_retransmits, handshake)
    }

    /// The difference; none if the record of an end was lost, so that it is not known.
    fn since(self, earlier: Self) -> Self {
        let sent = self.sent.checked_sub(earlier.sent);
        let retransmitted = self.retransmitted.checked_sub(earlier.retransmitted);
        let known = sent.zip(retransmitted);
        known.map_or_else(Self::default, |(sent, retransmitted)| Self { sent, retransmitted })
    }
}

impl Add for Segments {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            sent: self.sent.saturating_add(other.sent),
            retransmitted: self.retransmitted.saturating_add(other.retransmitted),
        }
    }
}

impl AddAssign for Segments {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// What has to be known at the next scan, besides what open connections had sent at the last one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unsettled {
    /// What connections that a scan had found have sent when they ended since.
    pub(super) ended: Segments,
    /// What connections that began unobserved had sent when a scan found them for the first time.
    pub(super) before: Segments,
}

impl Unsettled {
    /// What the connections have sent from one scan to the next, given what those had sent that each of
    /// them found open.
    pub(super) fn settle(self, last: Segments, now: Segments) -> Segments {
        (now + self.ended).since(last + self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retransmitted_syns_carry_no_data() {
        let retransmitted = |handshake| Segments::new(10, 3, handshake).retransmitted;
        assert_eq!(retransmitted(Some(Handshake::Clean { us: 1 })), 3);
        assert_eq!(retransmitted(Some(Handshake::Retransmitted { us: 1, times: 2 })), 1);
        assert_eq!(retransmitted(None), 3);
    }
}
