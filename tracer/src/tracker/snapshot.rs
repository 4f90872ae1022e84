//! The values that sinks see: a copy of the books over an interval.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{counters::Counters, events::Events, owners::Label, row_stats::RowStats};
use crate::{
    tcp::{close_reason::CloseReason, role::Role},
    trace::{counters::KERNEL_COUNTERS, ids::NetnsId, time::Nanos},
};

/// The books over an interval. They are kept finely; a report puts them together, see
/// [`Snapshot::rows`].
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When the interval began.
    pub start: Nanos,
    /// When it ended.
    pub end: Nanos,
    /// Those in which there is anything to say.
    pub(super) rows_by_key: BTreeMap<SnapshotKey, KeyedStats>,
    /// What became of the kernel's records in the interval.
    pub events: Events,
    /// What the kernel counted from the first to the last scan of each namespace in the interval,
    /// by [`KERNEL_COUNTERS`].
    pub kernel_counts: [u64; KERNEL_COUNTERS.len()],
    /// How full the tables are.
    pub tables: Tables,
    /// What the survey covers.
    pub scans: ScanCoverage,
}

/// The network namespaces in which there is anything to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanCoverage {
    /// How many there are.
    pub namespaces: u64,
    /// When the oldest of their last scans began; `None`: none was scanned yet.
    pub oldest: Option<Nanos>,
}

/// What a page of the books is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SnapshotKey {
    pub(super) role: Role,
    /// `None` for the rest, which has none.
    pub(super) netns: Option<NetnsId>,
    /// `None` for the rest.
    pub(super) port: Option<u16>,
    pub(super) remote: Option<IpAddr>,
    /// A client's.
    pub(super) owner: Option<Label>,
}

/// A page of the books: a row as finely as it is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyedStats {
    pub(super) owners: BTreeSet<Label>,
    pub(super) netns_name: Option<Arc<str>>,
    pub(super) stats: RowStats,
}

impl Snapshot {
    /// How long the interval was.
    pub fn seconds(&self) -> f64 {
        self.end.saturating_sub(self.start) as f64 / 1e9
    }

    /// Whether any connection began, was open or ended in the interval.
    pub(crate) fn has_connections(&self) -> bool {
        self.rows_by_key.values().any(|KeyedStats { stats: books, .. }| {
            let Counters { attempts, established, adopted, .. } = &books.counters;
            let open = books.gauges_at_start.open + books.gauges.open;
            attempts + established + adopted + open + books.counters.sum(|_| true) > 0
        })
    }

    /// How many connections ended for this reason, in all rows.
    pub fn ended(&self, reason: CloseReason) -> u64 {
        self.rows_by_key.values().map(|page| page.stats.counters.ended(reason)).sum()
    }

    /// Goes on with the next interval: what adds up is added, what is so now is as it is then.
    pub fn go_on(&mut self, later: &Self) {
        let nothing = KeyedStats::default();
        for (key, page) in &mut self.rows_by_key {
            let KeyedStats { owners, netns_name, stats: books } =
                later.rows_by_key.get(key).unwrap_or(&nothing);
            page.stats.merge_next(books);
            page.owners.extend(owners.iter().cloned());
            page.netns_name = netns_name.clone().or(page.netns_name.take());
        }
        for (key, page) in &later.rows_by_key {
            if !self.rows_by_key.contains_key(key) {
                self.rows_by_key.insert(key.clone(), page.clone());
            }
        }
        self.end = later.end;
        self.events.add(&later.events);
        for (sum, count) in self.kernel_counts.iter_mut().zip(later.kernel_counts) {
            *sum += count;
        }
        self.tables = later.tables;
        self.scans = later.scans;
    }
}

/// How full the tracker's tables are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Living connections.
    pub connections: u64,
    /// Connections that have just ended, and are shown as open until it is certain why.
    pub settling: u64,
    /// Connections that made room for others, since the start.
    pub evicted: u64,
    /// Bookings on the row of the rest for want of a row, since the start.
    pub folded: u64,
}
