//! Sockets in TIME_WAIT, which `sock:inet_sock_set_state` never reports: entries follow from other
//! transitions, exits from age, and every scan corrects both.

use std::{collections::BTreeMap, num::NonZero};

use crate::trace::{ids::NetnsId, time::Nanos};

/// `TCP_TIMEWAIT_LEN` (`include/net/tcp.h`): a constant of every Linux.
pub(super) const LENGTH: Nanos = 60 * SECOND;

/// The kernel's timers fire up to an eighth of their delay late and never early (`LVL_GRAN` in
/// `kernel/time/timer.c`). Where a hook reports exits, a TIME_WAIT is kept for that much longer.
pub(super) const LATENESS: Nanos = LENGTH / 8;

pub(super) const SECOND: Nanos = 1_000_000_000;

/// The time at which a TIME_WAIT ends; never 0.
pub(super) type Expiry = NonZero<Nanos>;

/// The time at which something ends that has `left` nanoseconds left at `time`.
pub(super) fn expiry(time: Nanos, left: Nanos) -> Expiry {
    Expiry::new(time.saturating_add(left)).unwrap_or(Expiry::MIN)
}

/// The sockets in TIME_WAIT of one row.
#[derive(Clone, Debug, Default)]
pub(crate) struct TimeWaits {
    /// Number that expire in each second of CLOCK_MONOTONIC, per namespace: a scan replaces those of
    /// its namespace.
    expiries: BTreeMap<(u64, NetnsId), u32>,
    now: u64,
    /// Of these, those that may turn out never to have existed.
    provisional: u64,
    peak: u64,
}

impl TimeWaits {
    /// Adds one that is not certain to exist until [`Self::settle`].
    pub(crate) fn enter_provisionally(&mut self, netns: NetnsId, time: Nanos, expired: Nanos) {
        self.provisional += 1;
        self.enter(netns, time, expired);
    }

    /// Adds one that lasts for a minute from `time`. Here as below, those that end by `expired` are
    /// removed first.
    pub(crate) fn enter(&mut self, netns: NetnsId, time: Nanos, expired: Nanos) {
        self.add(netns, expired, time.saturating_add(LENGTH));
    }

    /// Adds one with a known end.
    pub(crate) fn add(&mut self, netns: NetnsId, expired: Nanos, expiry: Nanos) {
        self.expire(expired);
        *self.expiries.entry((expiry / SECOND, netns)).or_default() += 1;
        self.now += 1;
        self.note_peak();
    }

    /// One provisional entry is certain now, or was removed.
    pub(crate) fn settle(&mut self) {
        self.provisional = self.provisional.saturating_sub(1);
        self.note_peak();
    }

    fn note_peak(&mut self) {
        self.peak = self.peak.max(self.now.saturating_sub(self.provisional));
    }

    /// Removes one that would have lasted until `expiry`.
    pub(crate) fn leave(&mut self, netns: NetnsId, expired: Nanos, expiry: Nanos) {
        self.expire(expired);
        if let Some(count) = self.expiries.get_mut(&(expiry / SECOND, netns)) {
            *count -= 1;
            self.now -= 1;
            if *count == 0 {
                self.expiries.remove(&(expiry / SECOND, netns));
            }
        }
    }

    /// Seconds from now and number of those that end then; call [`Self::expire`] first.
    pub(crate) fn left(&self, now: Nanos) -> impl Iterator<Item = (u64, u64)> {
        let left = move |second: u64| second.saturating_sub(now / SECOND);
        self.expiries.iter().map(move |(&(second, _), &count)| (left(second), count.into()))
    }

    /// Removes all of a namespace, which a scan has counted afresh. The peak stays.
    pub(crate) fn clear(&mut self, netns: NetnsId) {
        self.expiries.retain(|&(_, other), _| other != netns);
        self.now = self.expiries.values().copied().map(u64::from).sum();
    }

    /// Removes those that end by this time.
    pub(crate) fn expire(&mut self, expired: Nanos) {
        while let Some(entry) = self.expiries.first_entry() {
            if entry.key().0 >= expired / SECOND {
                break;
            }
            self.now -= u64::from(entry.remove());
        }
    }

    /// Number of sockets in TIME_WAIT; call [`Self::expire`] first.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Adds the peak of a row that is merged into this one: both may have occurred at once.
    pub(crate) fn absorb_peak(&mut self, peak: u64) {
        self.peak = self.peak.saturating_add(peak);
    }

    /// Largest number since the interval began.
    pub(crate) fn peak(&self) -> u64 {
        self.peak.max(self.now)
    }

    /// Resets the peak.
    pub(crate) fn begin_interval(&mut self) {
        self.peak = self.now.saturating_sub(self.provisional);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_ends_early_is_one_less() {
        let mut time_waits = TimeWaits::default();
        time_waits.enter(1, 10 * SECOND, 10 * SECOND);
        time_waits.enter(1, 12 * SECOND, 12 * SECOND);
        time_waits.leave(1, 20 * SECOND, 70 * SECOND);
        assert_eq!(time_waits.now(), 1);
        // It is gone, and one of another namespace never was.
        time_waits.leave(1, 20 * SECOND, 70 * SECOND);
        time_waits.leave(2, 20 * SECOND, 72 * SECOND);
        assert_eq!((time_waits.now(), time_waits.peak()), (1, 2));
        assert_eq!(time_waits.left(20 * SECOND).collect::<Vec<_>>(), [(52, 1)]);
    }

    #[test]
    fn an_entry_lasts_a_minute() {
        let mut time_waits = TimeWaits::default();
        time_waits.enter(1, 10 * SECOND, 10 * SECOND);
        time_waits.enter(1, 10 * SECOND + 5, 10 * SECOND + 5);
        time_waits.expire(69 * SECOND);
        assert_eq!(time_waits.now(), 2);
        time_waits.expire(71 * SECOND);
        assert_eq!((time_waits.now(), time_waits.peak()), (0, 2));
        time_waits.begin_interval();
        assert_eq!(time_waits.peak(), 0);
    }
}
