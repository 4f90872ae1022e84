//! The statistics of all rows over one interval.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    common::Common, counters::Counters, events::Events, owners::Label, row_stats::RowStats,
};
use crate::{
    tcp::{close_reason::CloseReason, role::Role},
    trace::{
        counters::{KERNEL_COUNTERS, add_increases},
        ids::{NetnsId, NetnsInode},
        time::Nanos,
    },
};

/// The ungrouped statistics of all rows over an interval; [`Snapshot::rows`] groups them.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Start of the interval (CLOCK_MONOTONIC, nanoseconds).
    pub start: Nanos,
    /// End of the interval (CLOCK_MONOTONIC, nanoseconds).
    pub end: Nanos,
    /// The rows with any activity or connection in the interval.
    pub(super) rows_by_key: BTreeMap<SnapshotKey, KeyedStats>,
    /// Counts of records in the interval.
    pub events: Events,
    /// Growth of the kernel's own [`KERNEL_COUNTERS`] from the first to the last scan of each
    /// namespace in the interval.
    pub kernel_counts: [u64; KERNEL_COUNTERS.len()],
    /// Fill levels of the tracker's tables.
    pub tables: Tables,
    /// Scan coverage of the reported namespaces.
    pub scans: ScanCoverage,
    /// Whether the sockets were scanned once and not watched after that.
    pub is_single_look: bool,
}

/// Minimum length of an interval in seconds for rates: in less time, one event is many per second.
const MIN_RATE_INTERVAL: f64 = 0.1;

/// Scan coverage of the namespaces of the reported rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanCoverage {
    /// Number of namespaces.
    pub namespaces: u64,
    /// Start of the oldest of the latest complete scans of namespaces with activity since that scan.
    /// Without such activity, start of the latest scan, because the scans of idle namespaces still
    /// hold. `None` if no namespace was scanned yet.
    pub oldest: Option<Nanos>,
}

/// Identifies a row, with the owner by name instead of by id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SnapshotKey {
    pub(super) role: Role,
    /// `None` for the overflow row.
    pub(super) netns: Option<NetnsId>,
    /// `None` for the overflow row.
    pub(super) port: Option<u16>,
    pub(super) remote: Option<IpAddr>,
    /// The owner of a client; `None` for servers.
    pub(super) owner: Option<Label>,
}

/// The statistics of one row, with its owners and the name of its namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyedStats {
    pub(super) owners: BTreeSet<Label>,
    pub(super) pid: Common<u32>,
    pub(super) netns_inode: Option<NetnsInode>,
    pub(super) netns_name: Option<Arc<str>>,
    /// Local addresses of the connections, as far as they are known.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Addresses of the port's listeners.
    pub(super) listening: BTreeSet<IpAddr>,
    pub(super) stats: RowStats,
}

impl Snapshot {
    /// Length of the interval in seconds.
    pub fn seconds(&self) -> f64 {
        self.end.saturating_sub(self.start) as f64 / 1e9
    }

    /// Whether counts per second are known: the sockets were watched for at least a tenth of a second.
    pub fn has_rates(&self) -> bool {
        !self.is_single_look && self.seconds() >= MIN_RATE_INTERVAL
    }

    /// Whether any connection was opened, was open or closed in the interval, or segments came to a
    /// port and led to none.
    pub(crate) fn has_traffic(&self) -> bool {
        self.rows_by_key.values().any(|KeyedStats { stats, .. }| {
            let Counters { attempts, established, adopted, .. } = &stats.counters;
            let open = stats.gauges_at_start.open + stats.gauges.open;
            attempts + established + adopted + open + stats.counters.sum(|_| true) > 0
                || stats.half_open_peak > 0
                || stats.counters.has_port_events()
        })
    }

    /// Number of connections closed for this reason, in all rows.
    pub fn ended(&self, reason: CloseReason) -> u64 {
        self.rows_by_key.values().map(|row| row.stats.counters.ended(reason)).sum()
    }

    /// Merges the next interval into this one, or becomes it if there is none yet.
    pub(crate) fn append(&mut self, later: &Self) {
        if self.end == 0 {
            self.clone_from(later);
        } else {
            self.merge_next(later);
        }
    }

    /// Merges the next interval into this one: counters are added, gauges are replaced.
    pub fn merge_next(&mut self, later: &Self) {
        let empty = KeyedStats::default();
        for (key, row) in &mut self.rows_by_key {
            let KeyedStats { owners, pid, netns_name, addresses, listening, stats, .. } =
                later.rows_by_key.get(key).unwrap_or(&empty);
            row.stats.merge_next(stats);
            row.addresses.extend(addresses);
            row.listening.clone_from(listening);
            row.pid.add(pid.clone());
            row.owners.extend(owners.iter().cloned());
            row.netns_name = netns_name.clone().or(row.netns_name.take());
        }
        for (key, row) in &later.rows_by_key {
            if !self.rows_by_key.contains_key(key) {
                self.rows_by_key.insert(key.clone(), row.clone());
            }
        }
        self.end = later.end;
        self.events.add(&later.events);
        add_increases(&mut self.kernel_counts, &later.kernel_counts);
        self.is_single_look &= later.is_single_look;
        self.tables = later.tables;
        self.scans = later.scans;
    }
}

/// Fill levels of the tracker's tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Open connections.
    pub connections: u64,
    /// Pending closes: connections in CLOSE that count as open until their close reason is certain.
    pub pending_closes: u64,
    /// Connections evicted from the full table since the start.
    pub evicted: u64,
    /// Lookups that fell back to the overflow row since the start.
    pub overflowed: u64,
    /// Names of cgroups and namespaces that were forgotten since the start, because there are too many.
    pub forgotten: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_a_damaged_recording_stay_at_their_maximum() {
        let damaged =
            Snapshot { kernel_counts: [u64::MAX; KERNEL_COUNTERS.len()], ..Snapshot::default() };
        let mut merged = damaged.clone();
        merged.merge_next(&damaged);
        assert_eq!(merged.kernel_counts, damaged.kernel_counts);
    }
}
