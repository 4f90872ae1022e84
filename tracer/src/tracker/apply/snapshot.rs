//! Takes snapshots.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rustc_hash::FxBuildHasher;

use crate::{
    tcp::role::Role,
    trace::{ids::NetnsId, time::nanos},
    tracker::{
        Tracker,
        current_interval::CurrentInterval,
        ephemeral::RateInterval,
        events::Events,
        oldest::{LINGERING_STATES, LONG, Oldest, OldestPerState, keep_older},
        row::SOURCES_LIMIT,
        row_key::{RowId, RowKey},
        snapshot::{KeyedStats, ScanCoverage, Snapshot, SnapshotKey, Tables},
    },
};

impl Tracker {
    /// Returns the statistics of the interval since the last snapshot, and begins the next one.
    pub fn take_snapshot(&mut self) -> Snapshot {
        let (start, end) = (self.interval.start, self.now);
        let events = self.events();
        let expired = self.expired();
        for (_, row) in self.rows.iter_mut() {
            row.time_waits.expire(expired);
        }
        let pools = self.port_pools();
        let seconds = end.saturating_sub(start) as f64 / 1e9;
        let held_ports = self.interval.held_ports.as_ref();
        let destinations = pools.fullest(held_ports, RateInterval { end, seconds });
        let mut oldest = self.oldest_per_row();
        let mut rows_by_key = BTreeMap::new();
        let (labels, rows) = self.rows.iter_with_labels();
        for (id, key, row) in rows {
            row.learn_owners(key, &self.listeners);
            if row.is_worth_reporting(start) {
                let owner = key.owner.and_then(|id| labels.get_index(id as usize)).cloned();
                let owners = owner.clone().map_or_else(|| row.owners.clone(), |one| [one].into());
                let mut stats = row.stats();
                let mut listening = BTreeSet::new();
                if let (Role::Server, Some(port)) = (key.role, key.port) {
                    stats.unaccepted = self.listeners.unaccepted(key.netns, port);
                    listening = self.listeners.addresses_on(key.netns, port, SOURCES_LIMIT);
                }
                stats.oldest = oldest.remove(&id).unwrap_or_default();
                stats.ephemeral = key.destination().and_then(|destination| {
                    let (netns, remote, _) = destination;
                    let range = self.namespaces.ephemeral_ports(netns)?;
                    let used = destinations.get(&destination).copied();
                    Some(used.unwrap_or_else(|| pools.without_clients(netns, remote, &range)))
                });
                // The overflow row has no namespace.
                let netns = (key.netns != 0).then_some(key.netns);
                let netns_inode = netns.map(|id| self.names.inode(id));
                let netns_name = netns.and_then(|id| self.names.namespace(id)).cloned();
                let &RowKey { role, port, remote, .. } = key;
                let key = SnapshotKey { role, netns, port, remote, owner };
                let addresses = row.sources.iter().copied().collect();
                let pid = row.pid.clone();
                let row = KeyedStats {
                    owners,
                    pid,
                    netns_inode,
                    netns_name,
                    addresses,
                    listening,
                    stats,
                };
                rows_by_key.insert(key, row);
            }
            row.begin_interval();
        }
        self.closed_ports.begin_interval();
        self.has_reported |= !rows_by_key.is_empty();
        let scans = self
            .scan_coverage(&rows_by_key.keys().filter_map(|key: &SnapshotKey| key.netns).collect());
        let snapshot = Snapshot {
            start,
            end,
            scans,
            rows_by_key,
            events: events.since(&self.interval.events_at_start),
            kernel_counts: self.interval.kernel_counts,
            tables: Tables {
                connections: self.connections.len() as u64,
                pending_closes: self.pending_closes.len() as u64,
                evicted: self.connections.evicted(),
                overflowed: self.rows.overflowed(),
                forgotten: self.names.forgotten(),
            },
            is_single_look: false,
        };
        self.interval = CurrentInterval::begin(end, events);
        self.interval.held_ports = Some(pools.held());
        snapshot
    }

    fn scan_coverage(&self, namespaces: &BTreeSet<NetnsId>) -> ScanCoverage {
        let scanned = |netns: &NetnsId| self.namespaces.scanned_at(*netns);
        let changed = namespaces.iter().filter(|&&netns| self.namespaces.has_changed(netns));
        let oldest = changed.filter_map(scanned).min();
        let latest = || namespaces.iter().filter_map(scanned).max();
        ScanCoverage { namespaces: namespaces.len() as u64, oldest: oldest.or_else(latest) }
    }

    /// Counts of the kernel's records since the start.
    pub fn events(&self) -> Events {
        self.records.events(self.undecided.filtered(), self.undecided.waiting())
    }

    /// The oldest connection of each row in each of [`LINGERING_STATES`].
    fn oldest_per_row(&self) -> HashMap<RowId, OldestPerState, FxBuildHasher> {
        let mut rows = HashMap::<RowId, OldestPerState, _>::default();
        for (_, connection) in self.connections.iter() {
            let Some(index) = LINGERING_STATES.iter().position(|&state| state == connection.state)
            else {
                continue;
            };
            let age = self.now.saturating_sub(connection.last_transition);
            let oldest = Oldest {
                since: connection.last_transition,
                at_least: connection.state_since_is_lower_bound(),
                owner: connection.owner.clone(),
                long: (age >= nanos(LONG)).into(),
            };
            keep_older(&mut rows.entry(connection.row).or_default()[index], Some(oldest));
        }
        rows
    }
}
