//! Sockets in TIME_WAIT. `sock:inet_sock_set_state` never reports them: entries are inferred from
//! other transitions and exits from age, and every scan corrects both.

use std::{collections::BTreeMap, num::NonZero};

use crate::trace::{ids::NetnsId, time::Nanos};

/// `TCP_TIMEWAIT_LEN` (`include/net/tcp.h`): a constant of every Linux.
pub(super) const LENGTH: Nanos = 60 * SECOND;

/// The kernel's timers are never early, and late by up to an eighth of their delay (`LVL_GRAN` in
/// `kernel/time/timer.c`). If a hook reports exits, TIME_WAITs are kept for that much longer.
pub(super) const LATENESS: Nanos = LENGTH / 8;

pub(super) const SECOND: Nanos = 1_000_000_000;

/// The time at which a TIME_WAIT ends (CLOCK_MONOTONIC, nanoseconds); never 0.
pub(super) type Expiry = NonZero<Nanos>;

/// The end of a TIME_WAIT that has `remaining` nanoseconds left at `time`.
pub(super) fn expiry(time: Nanos, remaining: Nanos) -> Expiry {
    Expiry::new(time.saturating_add(remaining)).unwrap_or(Expiry::MIN)
}

/// The sockets in TIME_WAIT of one row.
#[derive(Clone, Debug, Default)]
pub(crate) struct TimeWaits {
    /// Number of TIME_WAITs that expire in each second of CLOCK_MONOTONIC, by namespace, because a
    /// scan replaces those of its namespace.
    expiries: BTreeMap<(u64, NetnsId), u32>,
    now: u64,
    /// Number of entries that are not confirmed yet. `now` includes them.
    provisional: u64,
    peak: u64,
}

impl TimeWaits {
    /// Adds a TIME_WAIT that is not certain to exist until [`Self::end_provisional`].
    pub(crate) fn enter_provisionally(&mut self, netns: NetnsId, time: Nanos, expired: Nanos) {
        self.provisional += 1;
        self.enter(netns, time, expired);
    }

    /// Adds a TIME_WAIT that lasts for a minute from `time`. This and the following methods first
    /// remove entries that end by `expired`.
    pub(crate) fn enter(&mut self, netns: NetnsId, time: Nanos, expired: Nanos) {
        self.add(netns, expired, time.saturating_add(LENGTH));
    }

    /// Adds a TIME_WAIT that ends at `expiry`.
    pub(crate) fn add(&mut self, netns: NetnsId, expired: Nanos, expiry: Nanos) {
        self.expire(expired);
        *self.expiries.entry((expiry / SECOND, netns)).or_default() += 1;
        self.now += 1;
        self.note_peak();
    }

    /// Notes that a provisional entry was confirmed or removed.
    pub(crate) fn end_provisional(&mut self) {
        self.provisional = self.provisional.saturating_sub(1);
        self.note_peak();
    }

    fn note_peak(&mut self) {
        self.peak = self.peak.max(self.now.saturating_sub(self.provisional));
    }

    /// Removes a TIME_WAIT that would have lasted until `expiry`.
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

    /// Removes all TIME_WAITs of a namespace before a scan replaces them. The peak stays.
    pub(crate) fn clear(&mut self, netns: NetnsId) {
        self.expiries.retain(|&(_, other), _| other != netns);
        self.now = self.expiries.values().copied().map(u64::from).sum();
    }

    /// Removes the TIME_WAITs that end by this time.
    pub(crate) fn expire(&mut self, expired: Nanos) {
        while let Some(entry) = self.expiries.first_entry() {
            if entry.key().0 >= expired / SECOND {
                break;
            }
            self.now -= u64::from(entry.remove());
        }
    }

    /// Number of sockets in TIME_WAIT. Call [`Self::expire`] first.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Adds the peak of a row that is merged into this one: both peaks may have occurred at once.
    pub(crate) fn absorb_peak(&mut self, peak: u64) {
        self.peak = self.peak.saturating_add(peak);
    }

    /// Largest number of sockets in TIME_WAIT since the interval began.
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
    fn an_entry_that_ends_early_is_removed() {
        let mut time_waits = TimeWaits::default();
        time_waits.enter(1, 10 * SECOND, 10 * SECOND);
        time_waits.enter(1, 12 * SECOND, 12 * SECOND);
        time_waits.leave(1, 20 * SECOND, 70 * SECOND);
        assert_eq!(time_waits.now(), 1);
        // Neither exists: the first was removed, the second is in another namespace.
        time_waits.leave(1, 20 * SECOND, 70 * SECOND);
        time_waits.leave(2, 20 * SECOND, 72 * SECOND);
        assert_eq!((time_waits.now(), time_waits.peak()), (1, 2));
        // The other one is still there.
        time_waits.expire(72 * SECOND);
        assert_eq!(time_waits.now(), 1);
        time_waits.expire(73 * SECOND);
        assert_eq!(time_waits.now(), 0);
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
