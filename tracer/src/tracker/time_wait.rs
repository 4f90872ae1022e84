//! TIME_WAIT, which the kernel never reports: entries are known from the transitions, exits are
//! modelled by age, and every scan puts the model right.

use std::{collections::BTreeMap, num::NonZero};

use crate::trace::{ids::NetnsId, time::Nanos};

/// `TCP_TIMEWAIT_LEN` of every Linux: not a setting.
pub(super) const LENGTH: Nanos = 60 * SECOND;

/// The kernel's timers are late by up to an eighth of what they were set to, and never early
/// (`LVL_GRAN` in `kernel/time/timer.c`). Where it says that one is gone, that is waited for.
pub(super) const LATENESS: Nanos = LENGTH / 8;

pub(super) const SECOND: Nanos = 1_000_000_000;

/// The time of an end, which is never 0.
pub(super) type Expiry = NonZero<Nanos>;

/// What was there at this time ends so much later.
pub(super) fn expiry(time: Nanos, left: Nanos) -> Expiry {
    Expiry::new(time.saturating_add(left)).unwrap_or(Expiry::MIN)
}

/// The sockets in TIME_WAIT of one row.
#[derive(Clone, Debug, Default)]
pub(crate) struct TimeWaits {
    /// How many expire in each second of the clock, by the namespace whose scans count them anew.
    expiries: BTreeMap<(u64, NetnsId), u32>,
    now: u64,
    /// Of these, those that may turn out never to have been there.
    provisional: u64,
    peak: u64,
}

impl TimeWaits {
    /// One more, of which it is not certain until [`Self::settle`] that it is there.
    pub(crate) fn enter_provisionally(&mut self, netns: NetnsId, time: Nanos, expired: Nanos) {
        self.provisional += 1;
        self.enter(netns, time, expired);
    }

    /// One more, from this time on for the usual minute. Those that were to end by `expired` are
    /// gone, here as below.
    pub(crate) fn enter(&mut self, netns: NetnsId, time: Nanos, expired: Nanos) {
        self.add(netns, expired, time.saturating_add(LENGTH));
    }

    /// One more, with a known end.
    pub(crate) fn add(&mut self, netns: NetnsId, expired: Nanos, expiry: Nanos) {
        self.expire(expired);
        *self.expiries.entry((expiry / SECOND, netns)).or_default() += 1;
        self.now += 1;
        self.note_peak();
    }

    /// It is certain now that one is there; or that it never was, and it has left.
    pub(crate) fn settle(&mut self) {
        self.provisional = self.provisional.saturating_sub(1);
        self.note_peak();
    }

    fn note_peak(&mut self) {
        self.peak = self.peak.max(self.now.saturating_sub(self.provisional));
    }

    /// One less, which would have lasted until then.
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

    /// How many end in which second from now, after [`Self::expire`].
    pub(crate) fn left(&self, now: Nanos) -> impl Iterator<Item = (u64, u64)> {
        let left = move |second: u64| second.saturating_sub(now / SECOND);
        self.expiries.iter().map(move |(&(second, _), &count)| (left(second), count.into()))
    }

    /// Forgets all of a namespace: a scan has counted anew. The peak stays.
    pub(crate) fn clear(&mut self, netns: NetnsId) {
        self.expiries.retain(|&(_, other), _| other != netns);
        self.now = self.expiries.values().copied().map(u64::from).sum();
    }

    /// Lets those expire that were to end by this time.
    pub(crate) fn expire(&mut self, expired: Nanos) {
        while let Some(entry) = self.expiries.first_entry() {
            if entry.key().0 >= expired / SECOND {
                break;
            }
            self.now -= u64::from(entry.remove());
        }
    }

    /// How many there are, after [`Self::expire`].
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Takes over the peak of a row that is given up: both may have been at the same moment.
    pub(crate) fn absorb_peak(&mut self, peak: u64) {
        self.peak = self.peak.saturating_add(peak);
    }

    /// The most there were since the interval began.
    pub(crate) fn peak(&self) -> u64 {
        self.peak.max(self.now)
    }

    /// Begins an interval.
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
