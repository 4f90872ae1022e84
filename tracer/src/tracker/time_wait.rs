//! TIME_WAIT, which the kernel never reports: entries are known from the transitions, exits are
//! modelled by age, and every walk puts the model right.

use std::collections::BTreeMap;

use crate::input::Nanos;

/// `TCP_TIMEWAIT_LEN` of every Linux: not a setting.
const LENGTH: Nanos = 60 * SECOND;
const SECOND: Nanos = 1_000_000_000;

/// The sockets in TIME_WAIT of one row.
#[derive(Clone, Debug, Default)]
pub(crate) struct TimeWaits {
    /// How many expire in each second of the clock.
    expiries: BTreeMap<u64, u32>,
    now: u64,
    peak: u64,
}

impl TimeWaits {
    /// One more, from now on for the usual minute.
    pub(crate) fn enter(&mut self, now: Nanos) {
        self.add(now, now.saturating_add(LENGTH));
    }

    /// One more, with a known end.
    pub(crate) fn add(&mut self, now: Nanos, expiry: Nanos) {
        self.expire(now);
        *self.expiries.entry(expiry / SECOND).or_default() += 1;
        self.now += 1;
        self.peak = self.peak.max(self.now);
    }

    /// Forgets all: a walk has counted anew. The peak stays.
    pub(crate) fn clear(&mut self) {
        self.expiries.clear();
        self.now = 0;
    }

    /// Lets those expire whose time is over.
    pub(crate) fn expire(&mut self, now: Nanos) {
        while let Some(entry) = self.expiries.first_entry() {
            if *entry.key() >= now / SECOND {
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

    /// The most there were since the last call.
    pub(crate) fn take_peak(&mut self) -> u64 {
        std::mem::replace(&mut self.peak, self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_lasts_a_minute() {
        let mut time_waits = TimeWaits::default();
        time_waits.enter(10 * SECOND);
        time_waits.enter(10 * SECOND + 5);
        time_waits.expire(69 * SECOND);
        assert_eq!(time_waits.now(), 2);
        time_waits.expire(71 * SECOND);
        assert_eq!(time_waits.now(), 0);
        assert_eq!(time_waits.take_peak(), 2);
        assert_eq!(time_waits.take_peak(), 0);
    }
}
