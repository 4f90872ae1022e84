//! TIME_WAIT, which the kernel never reports: entries are known from the transitions, exits are
//! modelled by age, and every scan puts the model right.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, BuildHasherDefault, Hasher},
    net::SocketAddr,
    num::NonZero,
};

use rustc_hash::FxBuildHasher;

use super::ports::{RowId, RowKey};
use crate::trace::{ids::NetnsId, time::Nanos};

/// `TCP_TIMEWAIT_LEN` of every Linux: not a setting.
pub(super) const LENGTH: Nanos = 60 * SECOND;

/// The kernel's timers are late by up to an eighth of what they were set to, and never early
/// (`LVL_GRAN` in `kernel/time/timer.c`). Where it says that one is gone, that is waited for.
pub(super) const LATENESS: Nanos = LENGTH / 8;

const SECOND: Nanos = 1_000_000_000;

/// More than this are not kept apart.
const KEPT_LIMIT: usize = 1 << 20;

/// Ours and the peer's.
pub(super) type EndpointPair = (SocketAddr, SocketAddr);

/// A hash of a namespace and ends in it. That two have the same is a matter of one figure.
///
/// Its low bits, which [`TimeWaitRows`] takes for the place, are near each other where the ports are:
/// clients get theirs one after the other, and so the memory is still in the processor's caches that
/// the next one needs, be the table ever so large.
pub(super) type EndpointPairKey = u64;

/// So many of the low bits depend on ports only but for [`NEIGHBOURS`] of them.
const PLACE_BITS: u32 = 25;
const NEIGHBOURS: u16 = 32;

pub(super) fn key(netns: NetnsId, ends: EndpointPair) -> EndpointPairKey {
    let (local, remote) = ends;
    let hash = |mask: u16| {
        let ports = u64::from(local.port() & mask) << 16 | u64::from(remote.port() & mask);
        let rest = u64::from(netns) << 32 | ports;
        match ends {
            // Most of them; word by word this is several times as fast.
            (SocketAddr::V4(local), SocketAddr::V4(remote)) => {
                let ips = u64::from(local.ip().to_bits()) << 32 | u64::from(remote.ip().to_bits());
                FxBuildHasher.hash_one((ips, rest))
            }
            _ => FxBuildHasher.hash_one((local.ip(), remote.ip(), rest)),
        }
    };
    let neighbours = u64::from(NEIGHBOURS - 1);
    let which = u64::from(local.port() ^ remote.port());
    let place = hash(!(NEIGHBOURS - 1)) & !neighbours | which & neighbours;
    let mask = (1 << PLACE_BITS) - 1;
    hash(u16::MAX) & !mask | place & mask
}

/// What is known of ends.
pub(super) type ByEndpoints<T> = HashMap<EndpointPairKey, T, BuildHasherDefault<IsHash>>;

/// An [`EndsKey`] is a hash.
#[derive(Debug, Default)]
pub(super) struct IsHash(u64);

impl Hasher for IsHash {
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only keys are hashed");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The time of an end, which is never 0.
pub(super) type Expiry = NonZero<Nanos>;

/// What was there at this time ends so much later.
pub(super) fn expiry(time: Nanos, left: Nanos) -> Expiry {
    Expiry::new(time.saturating_add(left)).unwrap_or(Expiry::MIN)
}

/// In which row each TIME_WAIT was booked whose entry was seen: a scan that meets it knows neither
/// owner nor role.
#[derive(Debug, Default)]
pub(crate) struct TimeWaitRows(ByEndpoints<TrackedTimeWait>);

/// There may be very many: 32 bytes with its key.
#[derive(Clone, Copy, Debug)]
struct TrackedTimeWait {
    row: RowId,
    is_guess: bool,
    expiry: Option<Expiry>,
    netns: NetnsId,
    /// The last scan that met it, or during which it was entered.
    scan: u32,
}

impl TrackedTimeWait {
    fn entry(&self, key: EndpointPairKey) -> Entry {
        let &Self { row, is_guess, expiry, .. } = self;
        Entry { key, row, is_guess, expiry }
    }
}

/// A TIME_WAIT as it is booked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) key: EndpointPairKey,
    /// In which row it is booked.
    pub(crate) row: RowId,
    /// That row is a guess: a scan may know better.
    pub(crate) is_guess: bool,
    /// When it ends; `None` of an orphan in FIN_WAIT2.
    pub(crate) expiry: Option<Expiry>,
}

impl TimeWaitRows {
    /// One was booked, when so many scans had begun. Returns how one at the same ends was booked
    /// before, if that is known.
    pub(crate) fn enter(&mut self, netns: NetnsId, entry: Entry, scan: u32) -> Option<Entry> {
        if self.0.len() >= KEPT_LIMIT && !self.0.contains_key(&entry.key) {
            return None;
        }
        let Entry { key, row, is_guess, expiry } = entry;
        let before = self.0.insert(key, TrackedTimeWait { row, is_guess, expiry, netns, scan });
        before.map(|kept| kept.entry(key))
    }

    /// How one was booked, if that is known.
    pub(crate) fn get(&self, key: EndpointPairKey) -> Option<Entry> {
        self.0.get(&key).map(|kept| kept.entry(key))
    }

    /// A scan met one that is to be booked like this. Says whether it already is, to the second as
    /// [`TimeWaits`] counts.
    pub(crate) fn meet(&mut self, entry: &Entry, scan: u32) -> bool {
        let Some(kept) = self.0.get_mut(&entry.key) else {
            return false;
        };
        let second = |expiry: Option<Expiry>| expiry.map(|time| time.get() / SECOND);
        let is_so = (kept.row, kept.is_guess) == (entry.row, entry.is_guess)
            && second(kept.expiry) == second(entry.expiry);
        if is_so {
            kept.scan = scan;
        }
        is_so
    }

    /// One has become a TIME_WAIT at this time: how it was booked, if that is known.
    pub(crate) fn turn(&mut self, key: EndpointPairKey, time: Nanos) -> Option<Entry> {
        let kept = self.0.get_mut(&key)?;
        let before = kept.entry(key);
        kept.expiry = Some(expiry(time, LENGTH));
        Some(before)
    }

    /// One is over: how it was booked, if that is known.
    pub(crate) fn take(&mut self, key: EndpointPairKey) -> Option<Entry> {
        self.0.remove(&key).map(|kept| kept.entry(key))
    }

    /// A scan is over: those that it did not meet are gone.
    pub(crate) fn forget_absent(&mut self, netns: NetnsId, scan: u32) {
        self.0.retain(|_, kept| kept.netns != netns || kept.scan == scan);
    }
}

/// Ends that were due a TIME_WAIT when the kernel's table was full. Nothing shows which of them took
/// a place that had just become free; how many found none, the kernel's own counter tells later.
#[derive(Debug, Default)]
pub(crate) struct UnconfirmedTimeWaits(HashMap<NetnsId, UnconfirmedEndpoints, FxBuildHasher>);

#[derive(Debug, Default)]
struct UnconfirmedEndpoints {
    ends: Vec<(Nanos, RowKey)>,
    /// Overflows that the kernel counted a moment before the time of its end.
    overflows: u64,
}

/// More than this are not kept.
const UNCONFIRMED_LIMIT: usize = 1 << 16;

impl UnconfirmedTimeWaits {
    pub(crate) fn add(&mut self, row: RowKey, netns: NetnsId, time: Nanos) {
        let UnconfirmedEndpoints { ends, .. } = self.0.entry(netns).or_default();
        if ends.len() < UNCONFIRMED_LIMIT {
            ends.push((time, row));
        }
    }

    /// One was due none, as has turned out.
    pub(crate) fn take_back(&mut self, row: RowKey, netns: NetnsId, time: Nanos) {
        if let Some(UnconfirmedEndpoints { ends, .. }) = self.0.get_mut(&netns)
            && let Some(place) = ends.iter().rposition(|&end| end == (time, row))
        {
            ends.remove(place);
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
        let Some(unconfirmed) = self.0.get_mut(&netns) else {
            return Vec::new();
        };
        let ends = std::mem::take(&mut unconfirmed.ends);
        let (past, rest): (Vec<_>, Vec<_>) = ends.into_iter().partition(|&(time, _)| time <= to);
        unconfirmed.ends = rest;
        let rows: Vec<_> =
            past.into_iter().filter(|&(time, _)| time > from).map(|(_, row)| row).collect();

        let all = rows.len() as u64;
        let overflows = overflows.saturating_add(unconfirmed.overflows);
        let found_none = overflows.min(all);
        unconfirmed.overflows = overflows - found_none;
        if unconfirmed.ends.is_empty() && unconfirmed.overflows == 0 {
            self.0.remove(&netns);
        }
        let up_to = |index: u64| index * found_none / all.max(1);
        (0..).zip(rows).map(|(index, row)| (row, up_to(index + 1) > up_to(index))).collect()
    }
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
    use crate::tcp::role::Role;

    #[test]
    fn the_kernels_count_settles_what_was_doubtful() {
        let row = |port| RowKey::of_port(1, Role::Server, port);
        let mut unconfirmed = UnconfirmedTimeWaits::default();
        unconfirmed.add(row(80), 1, 12);
        unconfirmed.take_back(row(443), 1, 12);
        unconfirmed.take_back(row(80), 1, 12);
        for (time, port) in [(5, 80), (11, 80), (12, 443), (13, 80), (14, 443), (21, 80)] {
            unconfirmed.add(row(port), 1, time);
        }
        // The one before the first count cannot be settled, the last one is settled by the next.
        let settled = unconfirmed.settle(1, (10, 20), 2);
        assert_eq!(
            settled,
            [(row(80), false), (row(443), true), (row(80), false), (row(443), true)]
        );
        assert_eq!(unconfirmed.settle(2, (10, 20), 7), []);
        // One was counted a moment before its end.
        assert_eq!(unconfirmed.settle(1, (20, 30), 2), [(row(80), true)]);
        unconfirmed.add(row(80), 1, 31);
        assert_eq!(unconfirmed.settle(1, (30, 40), 0), [(row(80), true)]);
    }

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
