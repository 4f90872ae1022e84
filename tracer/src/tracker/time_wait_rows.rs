//! In which row each TIME_WAIT is counted.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hasher},
    net::SocketAddr,
};

use rustc_hash::FxBuildHasher;

use super::{
    endpoints::Endpoints,
    row_key::RowId,
    time_wait::{Expiry, LENGTH, SECOND, expiry},
};
use crate::trace::{ids::NetnsId, time::Nanos};

/// More than this are not kept apart.
const KEPT_LIMIT: usize = 1 << 20;

/// A hash of a namespace and ends in it. That two have the same is a matter of one figure.
///
/// Its low bits, which [`TimeWaitRows`] takes for the place, are near each other where the ports are:
/// clients get theirs one after the other, and so the memory is still in the processor's caches that
/// the next one needs, be the table ever so large.
pub(super) type EndpointPairKey = u64;

/// So many of the low bits depend on ports only but for [`NEIGHBOURS`] of them.
const PLACE_BITS: u32 = 25;
const NEIGHBOURS: u16 = 32;

pub(super) fn key(netns: NetnsId, ends: Endpoints) -> EndpointPairKey {
    let Endpoints { local, remote } = ends;
    let hash = |mask: u16| {
        let ports = u64::from(local.port() & mask) << 16 | u64::from(remote.port() & mask);
        let rest = u64::from(netns) << 32 | ports;
        match (local, remote) {
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
