//! The row in which each TIME_WAIT is counted.

use std::{
    collections::{HashMap, HashSet},
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

/// Maximum number of TIME_WAITs that are tracked individually.
const LIMIT: usize = 1 << 20;

/// A hash of a namespace and two endpoints. A collision makes a count wrong by one.
///
/// The low bits, which select the bucket in [`TimeWaitRows`], are close for close ports. Clients
/// get consecutive ports, so the next entry's bucket is likely in the CPU's cache even if the table
/// is large.
pub(super) type EndpointPairKey = u64;

/// Number of low bits that are equal for ports within one group of [`NEIGHBOURS`], except for the
/// position in the group.
const PLACE_BITS: u32 = 25;
const NEIGHBOURS: u16 = 32;

pub(super) fn key(netns: NetnsId, endpoints: Endpoints) -> EndpointPairKey {
    let Endpoints { local, remote } = endpoints;
    let hash = |mask: u16| {
        let ports = u64::from(local.port() & mask) << 16 | u64::from(remote.port() & mask);
        let rest = u64::from(netns) << 32 | ports;
        match (local, remote) {
            // The common case; hashing whole words is several times as fast.
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

/// A map keyed by endpoints.
pub(super) type ByEndpoints<T> = HashMap<EndpointPairKey, T, BuildHasherDefault<IdentityHasher>>;

pub(super) type EndpointPairs = HashSet<EndpointPairKey, BuildHasherDefault<IdentityHasher>>;

/// Passes an [`EndpointPairKey`], which is a hash already, through.
#[derive(Debug, Default)]
pub(super) struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
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

/// The row of each TIME_WAIT whose entry was observed. A scan that finds the TIME_WAIT shows
/// neither its owner nor its role.
#[derive(Debug, Default)]
pub(crate) struct TimeWaitRows(ByEndpoints<TrackedTimeWait>);

/// 32 bytes with the key, because there may be a million.
#[derive(Clone, Copy, Debug)]
struct TrackedTimeWait {
    row: RowId,
    is_guess: bool,
    local: LocalPort,
    expiry: Option<Expiry>,
    netns: NetnsId,
    /// Number of the last scan that found the entry, or during which it was added.
    scan: u32,
}

const _: () = assert!(size_of::<(EndpointPairKey, TrackedTimeWait)>() == 32);

impl TrackedTimeWait {
    fn entry(&self, key: EndpointPairKey) -> Entry {
        let &Self { row, is_guess, expiry, local, .. } = self;
        Entry { key, row, is_guess, expiry, local }
    }
}

/// The local port of a TIME_WAIT, with its address as an index into
/// [`Row::sources`](super::row::Row::sources).
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalPort {
    port: [u8; 2],
    /// The index, and [`Self::BOUND`].
    source: u8,
}

impl LocalPort {
    /// Set if bind() took the port.
    const BOUND: u8 = 1 << 7;
    /// The index if the address is not kept.
    const UNKNOWN: u8 = Self::BOUND - 1;
    /// Stands for the index if the service has another port.
    const OTHER_SERVICE: u8 = Self::UNKNOWN - 1;

    pub(crate) fn new(port: u16, source: Option<usize>, is_bound: bool) -> Self {
        let index = source.and_then(|index| u8::try_from(index).ok());
        let index = index.filter(|&it| it < Self::OTHER_SERVICE).unwrap_or(Self::UNKNOWN);
        let source = if is_bound { index | Self::BOUND } else { index };
        Self { port: port.to_ne_bytes(), source }
    }

    /// The port of a transparent proxy's connection, whose listener has another port.
    pub(crate) fn of_other_service(port: u16) -> Self {
        Self { port: port.to_ne_bytes(), source: Self::OTHER_SERVICE }
    }

    /// Whether the service has another port: that of a transparent proxy's listener.
    pub(crate) fn has_other_service(self) -> bool {
        self.source == Self::OTHER_SERVICE
    }

    pub(crate) fn port(self) -> u16 {
        u16::from_ne_bytes(self.port)
    }

    /// The index of the local address among those of the row; `None` if it is not kept.
    pub(crate) fn source(self) -> Option<usize> {
        let index = self.source & !Self::BOUND;
        (index < Self::OTHER_SERVICE).then_some(index.into())
    }

    pub(crate) fn is_bound(self) -> bool {
        self.source & Self::BOUND != 0
    }
}

/// A TIME_WAIT, and how it is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) key: EndpointPairKey,
    /// The row that counts it.
    pub(crate) row: RowId,
    /// Whether the row is a guess, which a scan may correct.
    pub(crate) is_guess: bool,
    /// The time at which it ends; `None` for an orphan in FIN_WAIT2.
    pub(crate) expiry: Option<Expiry>,
    /// The local port, which it holds until it ends.
    pub(crate) local: LocalPort,
}

impl TimeWaitRows {
    /// Adds an entry; `scan` is the number of the latest scan. Returns the entry that had the same
    /// endpoints before.
    pub(crate) fn enter(&mut self, netns: NetnsId, entry: Entry, scan: u32) -> Option<Entry> {
        if self.0.len() >= LIMIT && !self.0.contains_key(&entry.key) {
            return None;
        }
        let Entry { key, row, is_guess, expiry, local } = entry;
        let tracked = TrackedTimeWait { row, is_guess, local, expiry, netns, scan };
        let before = self.0.insert(key, tracked);
        before.map(|kept| kept.entry(key))
    }

    /// All entries, each with its namespace.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (NetnsId, Entry)> {
        self.0.iter().map(|(&key, kept)| (kept.netns, kept.entry(key)))
    }

    /// The entry with this key.
    pub(crate) fn get(&self, key: EndpointPairKey) -> Option<Entry> {
        self.0.get(&key).map(|kept| kept.entry(key))
    }

    /// Notes that a scan found this entry. Returns whether it is already counted in this way, with
    /// the precision of [`TimeWaits`](super::time_wait::TimeWaits): one second.
    pub(crate) fn on_scan(&mut self, entry: &Entry, scan: u32) -> bool {
        let Some(kept) = self.0.get_mut(&entry.key) else {
            return false;
        };
        let second = |expiry: Option<Expiry>| expiry.map(|time| time.get() / SECOND);
        let is_counted = (kept.row, kept.is_guess) == (entry.row, entry.is_guess)
            && second(kept.expiry) == second(entry.expiry);
        if is_counted {
            kept.scan = scan;
        }
        is_counted
    }

    /// Notes that an orphan in FIN_WAIT2 became a TIME_WAIT. Returns the entry before that.
    pub(crate) fn become_time_wait(&mut self, key: EndpointPairKey, time: Nanos) -> Option<Entry> {
        let kept = self.0.get_mut(&key)?;
        let before = kept.entry(key);
        kept.expiry = Some(expiry(time, LENGTH));
        Some(before)
    }

    /// Removes an entry.
    pub(crate) fn take(&mut self, key: EndpointPairKey) -> Option<Entry> {
        self.0.remove(&key).map(|kept| kept.entry(key))
    }

    /// Removes the entries of namespaces.
    pub(crate) fn forget_namespaces(&mut self, gone: &HashSet<NetnsId>) {
        self.0.retain(|_, kept| !gone.contains(&kept.netns));
    }

    /// Removes the entries of a namespace that a complete scan did not find.
    pub(crate) fn forget_absent(&mut self, netns: NetnsId, scan: u32) {
        self.0.retain(|_, kept| kept.netns != netns || kept.scan == scan);
    }
}
