//! One row: the statistics of one namespace, role and service port, and for clients of one owner and
//! destination.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    common::Common,
    counters::Counters,
    gauges::{Gauges, ScanGauges},
    listener_gap::ListenerUptime,
    listeners::{Listener, Listeners},
    owners::{Label, Owner},
    row_key::RowKey,
    row_stats::RowStats,
    segments::{Segments, Unsettled},
    time_wait::TimeWaits,
};
use crate::{
    tcp::role::Role,
    trace::{ids::NetnsId, time::Nanos},
};

/// The statistics of one row, see [`RowKey`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// Counters since the last snapshot.
    pub(super) counters: Counters,
    pub(super) gauges: Gauges,
    /// The gauges at the last snapshot.
    pub(super) gauges_at_start: Gauges,
    pub(super) time_waits: TimeWaits,
    /// Gauges from each namespace's last scan. Only the overflow row has several namespaces.
    pub(super) scanned: BTreeMap<NetnsId, ScanGauges>,
    /// What connections have sent since each namespace's last scan, as far as it is known.
    pub(super) unsettled: BTreeMap<NetnsId, Unsettled>,
    /// Largest number of connections waiting for accept() that was found since the last snapshot.
    pub(super) accept_peak: u64,
    /// Largest number of half-open handshakes that a scan found since the last snapshot.
    pub(super) half_open_peak: u64,
    /// Smallest accept queue limit that a new connection found since the last snapshot; 0: none.
    pub(super) accept_limit: u64,
    pub(super) uptime: ListenerUptime,
    /// Local addresses of connections and of clients' TIME_WAITs, up to [`SOURCES_LIMIT`].
    pub(super) sources: Vec<IpAddr>,
    /// Owners, up to [`OWNERS_LIMIT`].
    pub(super) owners: BTreeSet<Label>,
    /// The owner that was added last, which is usually the next one too.
    latest_owner: Option<Label>,
    /// Ids of the processes that own listeners, and connections that began or ended since the last
    /// snapshot.
    pub(super) pid: Common<u32>,
}

/// Maximum number of owners of a row.
const OWNERS_LIMIT: usize = 64;

/// Maximum number of local addresses of a row.
pub(super) const SOURCES_LIMIT: usize = 64;

impl Row {
    /// Whether the row has no connection and no TIME_WAIT, so that it can be merged.
    pub(super) fn is_idle(&self) -> bool {
        self.gauges == Gauges::default()
            && self.time_waits.now() == 0
            && !self.scanned.values().any(ScanGauges::counts_others)
    }

    /// Adds the counts of an idle row that is removed from the table.
    pub(super) fn absorb(&mut self, row: &Self) {
        self.counters.merge(&row.counters);
        self.gauges_at_start.merge(&row.gauges_at_start);
        self.time_waits.absorb_peak(row.time_waits.peak());
        self.accept_peak = self.accept_peak.max(row.accept_peak);
        self.half_open_peak = self.half_open_peak.max(row.half_open_peak);
        row.owners.iter().for_each(|owner| self.add_owner(owner));
    }

    /// The index of a local address; `None` if there are too many.
    pub(super) fn source(&mut self, source: IpAddr) -> Option<usize> {
        let index = self.sources.iter().position(|&known| known == source);
        index.or_else(|| {
            (self.sources.len() < SOURCES_LIMIT).then(|| {
                self.sources.push(source);
                self.sources.len() - 1
            })
        })
    }

    /// Notes the local address of a connection, up to [`SOURCES_LIMIT`].
    pub(super) fn note_address(&mut self, address: IpAddr) {
        // Until Linux 6.14, a child has its listener's address until the handshake is complete.
        if !address.is_unspecified() {
            self.source(address);
        }
    }

    /// Counts what connections have sent since the last scan of a namespace. The next one has found
    /// `open` connections with these segments, of which some have ended since with others.
    pub(super) fn settle_segments(&mut self, netns: NetnsId, open: Segments, ended: Segments) {
        let last = self.scanned.get(&netns).map(|gauges| gauges.segments);
        let unsettled = self.unsettled.remove(&netns).unwrap_or_default();
        self.counters.segments += unsettled.settle(last.unwrap_or_default(), open);
        if ended != Segments::default() {
            self.unsettled.insert(netns, Unsettled { ended, ..Unsettled::default() });
        }
    }

    /// Decrements the number of orphans in FIN_WAIT2.
    pub(super) fn remove_orphan(&mut self, netns: NetnsId) {
        if let Some(scanned) = self.scanned.get_mut(&netns) {
            scanned.fin_wait2_orphans = scanned.fin_wait2_orphans.saturating_sub(1);
        }
    }

    /// Notes the process that owns a connection.
    pub(super) fn note_process(&mut self, owner: &Owner) {
        // Without an id, there are several.
        self.pid.add(owner.pid.map_or(Common::Several(2), Common::One));
    }

    /// Adds an owner, up to [`OWNERS_LIMIT`].
    pub(super) fn add_owner(&mut self, owner: &Label) {
        if self.latest_owner.as_ref().is_some_and(|latest| latest.shares_strings_with(owner)) {
            return;
        }
        if self.owners.len() < OWNERS_LIMIT {
            self.owners.insert(owner.clone());
        }
        self.latest_owner = Some(owner.clone());
    }

    /// Replaces all owners.
    pub(super) fn set_owners(&mut self, owners: impl IntoIterator<Item = Label>) {
        self.owners.clear();
        self.latest_owner = None;
        owners.into_iter().for_each(|owner| self.add_owner(&owner));
    }

    /// Updates a server's owners from its listeners, if there are any.
    pub(super) fn learn_owners(&mut self, key: &RowKey, listeners: &Listeners) {
        let (Role::Server, Some(port)) = (key.role, key.port) else {
            return;
        };
        let owners: BTreeSet<_> =
            listeners.on(key.netns, port).flat_map(Listener::labels).collect();
        if !owners.is_empty() {
            self.owners = owners;
            self.pid = Common::Unknown;
            let listeners = listeners.on(key.netns, port);
            listeners.filter_map(|it| it.owner.as_ref()).for_each(|owner| self.note_process(owner));
        }
    }

    /// Whether the row had any activity, connection or TIME_WAIT in the interval since `start`.
    pub(super) fn is_worth_reporting(&self, start: Nanos) -> bool {
        let counters = &self.counters;
        let Counters { attempts, established, adopted, .. } = counters;
        attempts + established + adopted > 0
            || counters.accept_waits() > 0
            || counters.has_port_events()
            || counters.time_wait_entered + counters.time_wait_overflowed > 0
            || self.uptime.has_changed_since(start)
            || counters.sum(|_| true) > 0
            || counters.segments != Segments::default()
            || self.gauges != Gauges::default()
            || self.gauges_at_start != Gauges::default()
            || self.scanned.values().any(ScanGauges::counts_others)
            || self.time_waits.peak() > 0
    }

    /// Returns the statistics of the interval and resets the counters.
    pub(super) fn stats(&mut self) -> RowStats {
        let mut scanned = ScanGauges::default();
        self.scanned.values().for_each(|namespace| scanned.merge(namespace));
        scanned.limit_queue(self.accept_limit);
        RowStats {
            counters: std::mem::take(&mut self.counters),
            gauges: self.gauges,
            gauges_at_start: self.gauges_at_start,
            time_wait_now: self.time_waits.now(),
            time_wait_peak: self.time_waits.peak(),
            accept_peak: self.accept_peak,
            half_open_peak: self.half_open_peak.max(scanned.half_open),
            scanned,
            uptime: self.uptime,
            ..RowStats::default()
        }
    }

    pub(super) fn begin_interval(&mut self) {
        self.counters = Counters::default();
        self.gauges_at_start = self.gauges;
        self.time_waits.begin_interval();
        self.accept_peak = 0;
        self.pid = Common::Unknown;
        self.half_open_peak = 0;
        self.accept_limit = 0;
    }
}
