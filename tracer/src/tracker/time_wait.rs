//! TIME_WAIT, which the kernel never reports: entries are known from the transitions, exits are
//! modelled by age, and every walk puts the model right.

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasher,
    net::SocketAddr,
};

use rustc_hash::FxBuildHasher;

use super::ports::{RowId, RowKey};
use crate::input::{Nanos, NetnsId};

/// `TCP_TIMEWAIT_LEN` of every Linux: not a setting.
pub(super) const LENGTH: Nanos = 60 * SECOND;
const SECOND: Nanos = 1_000_000_000;

/// More than this are not kept apart.
const KEPT_LIMIT: usize = 1 << 20;

/// Ours and the peer's.
pub(super) type Ends = (SocketAddr, SocketAddr);

/// In which row each TIME_WAIT was booked whose entry was seen: a walk that meets it knows neither
/// owner nor role. Known by a hash of the ends; that two have the same is a matter of one figure.
#[derive(Debug, Default)]
pub(crate) struct TimeWaitRows(HashMap<u64, Kept, FxBuildHasher>);

#[derive(Clone, Copy, Debug)]
struct Kept {
    row: RowId,
    netns: NetnsId,
    /// The last walk that met it, or during which it was entered.
    walk: u32,
    /// When it ends; `None` if a walk has found it to be an orphan in FIN_WAIT2.
    expiry: Option<Nanos>,
    is_guess: bool,
}

/// An entry into TIME_WAIT.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) netns: NetnsId,
    pub(crate) ends: Ends,
    /// In which row it is booked.
    pub(crate) row: RowId,
    /// That row is a guess: a walk may know better.
    pub(crate) is_guess: bool,
    /// When it was.
    pub(crate) time: Nanos,
}

impl TimeWaitRows {
    /// One was booked, when so many walks had begun.
    pub(crate) fn enter(&mut self, entry: &Entry, walk: u32) {
        let &Entry { netns, ends, row, is_guess, time } = entry;
        if self.0.len() < KEPT_LIMIT {
            let expiry = Some(time.saturating_add(LENGTH));
            self.0.insert(key(netns, ends), Kept { row, netns, walk, expiry, is_guess });
        }
    }

    /// A walk met one: in which row it was booked, if that is known.
    pub(crate) fn meet(
        &mut self,
        netns: NetnsId,
        ends: Ends,
        walk: u32,
        expiry: Option<Nanos>,
    ) -> Option<RowId> {
        let key = key(netns, ends);
        let kept = self.0.get_mut(&key)?;
        if kept.is_guess {
            self.0.remove(&key);
            return None;
        }
        kept.walk = walk;
        kept.expiry = expiry;
        Some(kept.row)
    }

    /// One is over before its time: in which row it was booked, and until when, if that is known.
    pub(crate) fn take(&mut self, netns: NetnsId, ends: Ends) -> Option<(RowId, Option<Nanos>)> {
        let kept = self.0.remove(&key(netns, ends))?;
        Some((kept.row, kept.expiry))
    }

    /// A walk is over: those that it did not meet are gone.
    pub(crate) fn forget_absent(&mut self, netns: NetnsId, walk: u32) {
        self.0.retain(|_, kept| kept.netns != netns || kept.walk == walk);
    }
}

fn key(netns: NetnsId, ends: Ends) -> u64 {
    FxBuildHasher.hash_one((netns, ends))
}

/// Ends that were due a TIME_WAIT when the kernel's table was full. Nothing shows which of them took
/// a place that had just become free; how many found none, the kernel's own counter tells later.
#[derive(Debug, Default)]
pub(crate) struct Doubtful(HashMap<NetnsId, DoubtfulEnds, FxBuildHasher>);

#[derive(Debug, Default)]
struct DoubtfulEnds {
    ends: Vec<(Nanos, RowKey)>,
    /// Overflows that the kernel counted a moment before the time of its end.
    overflows: u64,
}

/// More than this are not kept.
const DOUBTFUL_LIMIT: usize = 1 << 16;

impl Doubtful {
    pub(crate) fn add(&mut self, row: RowKey, netns: NetnsId, time: Nanos) {
        let DoubtfulEnds { ends, .. } = self.0.entry(netns).or_default();
        if ends.len() < DOUBTFUL_LIMIT {
            ends.push((time, row));
        }
    }

    /// The kernel has counted so many overflows between two times. Gives the rows of the ends
    /// between them, and which of them overflowed: those are spread evenly.
    pub(crate) fn settle(
        &mut self,
        netns: NetnsId,
        (from, to): (Nanos, Nanos),
        overflows: u64,
    ) -> Vec<(RowKey, bool)> {
        let Some(doubtful) = self.0.get_mut(&netns) else {
            return Vec::new();
        };
        let ends = std::mem::take(&mut doubtful.ends);
        let (past, rest): (Vec<_>, Vec<_>) = ends.into_iter().partition(|&(time, _)| time <= to);
        doubtful.ends = rest;
        let rows: Vec<_> =
            past.into_iter().filter(|&(time, _)| time > from).map(|(_, row)| row).collect();

        let all = rows.len() as u64;
        let overflows = overflows.saturating_add(doubtful.overflows);
        let found_none = overflows.min(all);
        doubtful.overflows = overflows - found_none;
        if doubtful.ends.is_empty() && doubtful.overflows == 0 {
            self.0.remove(&netns);
        }
        let up_to = |index: u64| index * found_none / all.max(1);
        (0..).zip(rows).map(|(index, row)| (row, up_to(index + 1) > up_to(index))).collect()
    }
}

/// The sockets in TIME_WAIT of one row.
#[derive(Clone, Debug, Default)]
pub(crate) struct TimeWaits {
    /// How many expire in each second of the clock, by the namespace whose walks count them anew.
    expiries: BTreeMap<(u64, NetnsId), u32>,
    now: u64,
    /// Of these, those that may turn out never to have been there.
    provisional: u64,
    peak: u64,
}

impl TimeWaits {
    /// One more, of which it is not certain until [`Self::settle`] that it is there.
    pub(crate) fn enter_provisionally(&mut self, netns: NetnsId, now: Nanos) {
        self.provisional += 1;
        self.enter(netns, now);
    }

    /// One more, from now on for the usual minute.
    pub(crate) fn enter(&mut self, netns: NetnsId, now: Nanos) {
        self.add(netns, now, now.saturating_add(LENGTH));
    }

    /// One more, with a known end.
    pub(crate) fn add(&mut self, netns: NetnsId, now: Nanos, expiry: Nanos) {
        self.expire(now);
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
    pub(crate) fn leave(&mut self, netns: NetnsId, now: Nanos, expiry: Nanos) {
        self.expire(now);
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

    /// Forgets all of a namespace: a walk has counted anew. The peak stays.
    pub(crate) fn clear(&mut self, netns: NetnsId) {
        self.expiries.retain(|&(_, other), _| other != netns);
        self.now = self.expiries.values().copied().map(u64::from).sum();
    }

    /// Lets those expire whose time is over.
    pub(crate) fn expire(&mut self, now: Nanos) {
        while let Some(entry) = self.expiries.first_entry() {
            if entry.key().0 >= now / SECOND {
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
    use crate::tracker::Role;

    #[test]
    fn the_kernels_count_settles_what_was_doubtful() {
        let row = |port| RowKey::of_port(1, Role::Server, port);
        let mut doubtful = Doubtful::default();
        for (time, port) in [(5, 80), (11, 80), (12, 443), (13, 80), (14, 443), (21, 80)] {
            doubtful.add(row(port), 1, time);
        }
        // The one before the first count cannot be settled, the last one is settled by the next.
        let settled = doubtful.settle(1, (10, 20), 2);
        assert_eq!(
            settled,
            [(row(80), false), (row(443), true), (row(80), false), (row(443), true)]
        );
        assert_eq!(doubtful.settle(2, (10, 20), 7), []);
        // One was counted a moment before its end.
        assert_eq!(doubtful.settle(1, (20, 30), 2), [(row(80), true)]);
        doubtful.add(row(80), 1, 31);
        assert_eq!(doubtful.settle(1, (30, 40), 0), [(row(80), true)]);
    }

    #[test]
    fn one_that_ends_early_is_one_less() {
        let mut time_waits = TimeWaits::default();
        time_waits.enter(1, 10 * SECOND);
        time_waits.enter(1, 12 * SECOND);
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
        time_waits.enter(1, 10 * SECOND);
        time_waits.enter(1, 10 * SECOND + 5);
        time_waits.expire(69 * SECOND);
        assert_eq!(time_waits.now(), 2);
        time_waits.expire(71 * SECOND);
        assert_eq!((time_waits.now(), time_waits.peak()), (0, 2));
        time_waits.begin_interval();
        assert_eq!(time_waits.peak(), 0);
    }
}
