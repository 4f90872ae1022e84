//! One row: what is counted per namespace, role and service port.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use synfin_common::port_count::SynQueue;

use super::{
    counters::Counters,
    gauges::{Gauges, ScanGauges},
    listener_gap::ListenerUptime,
    listeners::{Listener, Listeners},
    owners::Label,
    row_key::RowKey,
    row_stats::RowStats,
    time_wait::TimeWaits,
};
use crate::{
    tcp::role::Role,
    trace::{ids::NetnsId, time::Nanos},
};

/// The books of one namespace, role and port.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// Since the last cut.
    pub(super) interval: Counters,
    pub(super) gauges: Gauges,
    /// The gauges at the last cut.
    pub(super) opening_balance: Gauges,
    pub(super) time_waits: TimeWaits,
    /// What each namespace's last scan showed. A row has one namespace, that of the rest many.
    pub(super) scanned: BTreeMap<NetnsId, ScanGauges>,
    /// Most connections seen waiting for accept() since the last cut.
    pub(super) accept_peak: u64,
    /// The limit of that on one listener, the least that a new connection found since the last cut;
    /// 0: there was none.
    pub(super) accept_limit: u64,
    pub(super) uptime: ListenerUptime,
    /// Our addresses that clients connect from, up to [`SOURCES_LIMIT`].
    pub(super) sources: Vec<IpAddr>,
    /// The owners, up to [`OWNERS_LIMIT`].
    pub(super) owners: BTreeSet<Label>,
    /// The one that was told last, which mostly is told again.
    latest_owner: Option<Label>,
}

/// More owners than this are not told apart.
const OWNERS_LIMIT: usize = 64;

/// More addresses of ours than this are not told apart.
const SOURCES_LIMIT: usize = 64;

impl Row {
    /// Nothing lives here: all that it holds adds up elsewhere as well.
    pub(super) fn is_idle(&self) -> bool {
        self.gauges == Gauges::default() && self.time_waits.now() == 0 && self.scanned.is_empty()
    }

    /// Takes over what a lifeless row has counted.
    pub(super) fn absorb(&mut self, row: Self) {
        self.interval.merge(&row.interval);
        self.opening_balance.merge(&row.opening_balance);
        self.time_waits.absorb_peak(row.time_waits.peak());
        self.accept_peak = self.accept_peak.max(row.accept_peak);
        row.owners.iter().for_each(|owner| self.add_owner(owner));
    }

    /// Takes note of which address of ours it is that a client connects from.
    pub(super) fn connects_from(&mut self, role: Role, source: IpAddr) {
        if role == Role::Client
            && !self.sources.contains(&source)
            && self.sources.len() < SOURCES_LIMIT
        {
            self.sources.push(source);
        }
    }

    /// An orphan in FIN_WAIT2 is one no more.
    pub(super) fn lose_orphan(&mut self, netns: NetnsId) {
        if let Some(scanned) = self.scanned.get_mut(&netns) {
            scanned.fin_wait2_orphans = scanned.fin_wait2_orphans.saturating_sub(1);
        }
    }

    /// Takes note of an owner.
    pub(super) fn add_owner(&mut self, owner: &Label) {
        if self.latest_owner.as_ref().is_some_and(|latest| latest.is_same(owner)) {
            return;
        }
        if self.owners.len() < OWNERS_LIMIT {
            self.owners.insert(owner.clone());
        }
        self.latest_owner = Some(owner.clone());
    }

    /// These are the owners, and nobody else.
    pub(super) fn set_owners(&mut self, owners: impl IntoIterator<Item = Label>) {
        self.owners.clear();
        self.latest_owner = None;
        owners.into_iter().for_each(|owner| self.add_owner(&owner));
    }

    /// A server's owners are those of its listeners, so long as there are any.
    pub(super) fn learn_owners(&mut self, key: &RowKey, listeners: &Listeners) {
        let (Role::Server, Some(port)) = (key.role, key.port) else {
            return;
        };
        let owners: BTreeSet<_> =
            listeners.on(key.netns, port).flat_map(Listener::labels).collect();
        if !owners.is_empty() {
            self.owners = owners;
        }
    }

    /// `start` is when the interval began.
    pub(super) fn has_something_to_say(&self, start: Nanos) -> bool {
        let interval = &self.interval;
        let Counters { attempts, established, adopted, .. } = interval;
        attempts + established + adopted > 0
            || interval.synack_retransmits > 0
            || interval.resets_total() > 0
            || SynQueue::ALL.iter().any(|&what| interval.syn_queue(what) > 0)
            || interval.time_wait_entered + interval.time_wait_overflowed > 0
            || self.uptime.has_changed_since(start)
            || interval.sum(|_| true) > 0
            || self.gauges != Gauges::default()
            || self.opening_balance != Gauges::default()
            || !self.scanned.is_empty()
            || self.time_waits.peak() > 0
    }

    /// What it has counted in the interval, which it gives away, and what is so at its end.
    pub(super) fn stats(&mut self) -> RowStats {
        let mut scanned = ScanGauges::default();
        self.scanned.values().for_each(|namespace| scanned.merge(namespace));
        scanned.limit_queue(self.accept_limit);
        RowStats {
            counters: std::mem::take(&mut self.interval),
            gauges: self.gauges,
            gauges_at_start: self.opening_balance,
            time_wait_now: self.time_waits.now(),
            time_wait_peak: self.time_waits.peak(),
            scanned,
            accept_peak: self.accept_peak,
            uptime: self.uptime,
            ..RowStats::default()
        }
    }

    pub(super) fn begin_interval(&mut self) {
        self.interval = Counters::default();
        self.opening_balance = self.gauges;
        self.time_waits.begin_interval();
        self.accept_peak = 0;
        self.accept_limit = 0;
    }
}
