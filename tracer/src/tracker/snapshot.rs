//! The values that sinks see: a copy of the books over an interval.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use synfin_common::{event::Kind, port_count::SynQueueEvent};

use super::{
    Tracker,
    ephemeral::{Destination, DestinationKey, Ephemeral},
    listener_gap::ListenerUptime,
    listeners::{Listener, Listeners},
    oldest::{OldestPerState, keep_older},
    owners::Label,
    ports::{Counters, Gauges, Row, RowKey, ScanGauges},
};
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

/// What is known of a row, or of several together.
#[derive(Clone, Debug, Default)]
pub(super) struct RowStats {
    pub(super) counters: Counters,
    pub(super) gauges: Gauges,
    pub(super) gauges_at_start: Gauges,
    pub(super) time_wait_now: u64,
    pub(super) time_wait_peak: u64,
    pub(super) scanned: ScanGauges,
    pub(super) accept_peak: u64,
    pub(super) uptime: ListenerUptime,
    pub(super) oldest: OldestPerState,
    pub(super) ephemeral: Option<Ephemeral>,
}

impl RowStats {
    /// Adds those of another row in the same interval.
    pub(super) fn add(&mut self, other: &Self) {
        self.counters.merge(&other.counters);
        self.gauges.merge(&other.gauges);
        self.gauges_at_start.merge(&other.gauges_at_start);
        self.time_wait_now += other.time_wait_now;
        self.time_wait_peak += other.time_wait_peak;
        self.scanned.merge(&other.scanned);
        self.accept_peak = self.accept_peak.max(other.accept_peak);
        self.uptime.merge(&other.uptime);
        for (kept, oldest) in self.oldest.iter_mut().zip(&other.oldest) {
            keep_older(kept, oldest.clone());
        }
        // Of several destinations, the one where most ports are used up is shown.
        if let Some(destination) = &other.ephemeral
            && self.ephemeral.is_none_or(|shown| shown.share() < destination.share())
        {
            self.ephemeral = Some(*destination);
        }
    }

    /// Goes on with those of the same row in the next interval.
    fn merge_next(&mut self, later: &Self) {
        self.counters.merge(&later.counters);
        self.gauges = later.gauges;
        self.time_wait_now = later.time_wait_now;
        self.time_wait_peak = self.time_wait_peak.max(later.time_wait_peak);
        self.scanned = later.scanned;
        self.accept_peak = self.accept_peak.max(later.accept_peak);
        self.uptime.merge(&later.uptime);
        self.oldest.clone_from(&later.oldest);
        self.ephemeral = later.ephemeral;
    }
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

/// What became of the kernel's records: `seen == delivered + lost + filtered + in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Records that a hook wanted to write.
    pub seen: u64,
    /// Records that reached the tracker.
    pub delivered: u64,
    /// Records for which the ring buffer had no room.
    pub lost: u64,
    /// Of these, births and ends: with them, figures are lower bounds.
    pub lost_edges: u64,
    /// Records left out on purpose.
    pub filtered: u64,
    /// Runs of a hook that the kernel skipped, so that there was no record.
    pub missed: u64,
    /// Places where a record must be missing.
    pub gaps: u64,
    /// Records that were not understood; they are among the delivered.
    pub unreadable: u64,
}

impl Events {
    /// Records between the hooks and the books: on their way, or kept back until it is known
    /// whether a filter excludes them. Negative never; nonzero at the end of a trace never.
    pub fn in_flight(&self) -> i64 {
        let known = self.delivered.saturating_add(self.lost).saturating_add(self.filtered);
        let in_flight = i128::from(self.seen) - i128::from(known);
        i64::try_from(in_flight).unwrap_or(i64::MAX)
    }

    /// Whether counts of births and ends are lower bounds.
    pub fn are_lower_bounds(&self) -> bool {
        [self.lost_edges, self.missed, self.gaps, self.unreadable].iter().any(|&count| count > 0)
    }

    /// Adds those of a later interval.
    pub(crate) fn add(&mut self, later: &Self) {
        self.seen += later.seen;
        self.delivered += later.delivered;
        self.lost += later.lost;
        self.lost_edges += later.lost_edges;
        self.filtered += later.filtered;
        self.missed += later.missed;
        self.gaps += later.gaps;
        self.unreadable += later.unreadable;
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            seen: self.seen - earlier.seen,
            delivered: self.delivered - earlier.delivered,
            lost: self.lost - earlier.lost,
            lost_edges: self.lost_edges - earlier.lost_edges,
            filtered: self.filtered - earlier.filtered,
            missed: self.missed - earlier.missed,
            gaps: self.gaps - earlier.gaps,
            unreadable: self.unreadable - earlier.unreadable,
        }
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

impl Tracker {
    /// Ends the interval and begins the next one.
    pub fn take_snapshot(&mut self) -> Snapshot {
        let (start, end) = (self.interval_start, self.now);
        let events = self.events();
        let expired = self.expired();
        for (_, row) in self.ports.iter_mut() {
            row.time_waits.expire(expired);
        }
        let destinations = self.destinations();
        let mut oldest = self.oldest_per_row();
        let mut pages = BTreeMap::new();
        let (labels, rows) = self.ports.with_labels();
        for (id, key, row) in rows {
            row.learn_owners(key, &self.listeners);
            if row.has_something_to_say(start) {
                let owner = key.owner.and_then(|id| labels.get_index(id as usize)).cloned();
                let owners = owner.clone().map_or_else(|| row.owners.clone(), |one| [one].into());
                let mut books = row.stats();
                books.oldest = oldest.remove(&id).unwrap_or_default();
                books.ephemeral = destination(key)
                    .and_then(|destination| destinations.get(&destination).copied());
                // The rest has no namespace.
                let netns = (key.netns != 0).then_some(key.netns);
                let netns_name = netns.and_then(|id| self.names.namespace(id)).cloned();
                let &RowKey { role, port, remote, .. } = key;
                let key = SnapshotKey { role, netns, port, remote, owner };
                pages.insert(key, KeyedStats { owners, netns_name, stats: books });
            }
            row.begin_interval();
        }
        let scans =
            self.scan_coverage(pages.keys().filter_map(|key: &SnapshotKey| key.netns).collect());
        let snapshot = Snapshot {
            start,
            end,
            scans,
            rows_by_key: pages,
            events: events.since(&self.events_at_snapshot),
            kernel_counts: std::mem::take(&mut self.kernel_counts),
            tables: Tables {
                connections: self.connections.len() as u64,
                settling: self.pending_closes.len() as u64,
                evicted: self.connections.evicted(),
                folded: self.ports.overflowed(),
            },
        };
        self.interval_start = end;
        self.events_at_snapshot = events;
        snapshot
    }

    fn scan_coverage(&self, namespaces: BTreeSet<NetnsId>) -> ScanCoverage {
        let scanned = namespaces.iter().filter_map(|&netns| self.namespaces.scanned_at(netns));
        ScanCoverage { namespaces: namespaces.len() as u64, oldest: scanned.min() }
    }

    /// How far the ports are used up toward each destination of clients.
    fn destinations(&self) -> BTreeMap<DestinationKey, Ephemeral> {
        let (start, end) = (self.interval_start, self.now);
        let mut sums: BTreeMap<DestinationKey, Destination> = BTreeMap::new();
        for (_, key, row) in self.ports.iter() {
            let Some(destination) = destination(key) else { continue };
            let sum = sums.entry(destination).or_default();
            sum.live += row.gauges.open + row.gauges.pending;
            sum.live_at_start += row.opening_balance.open + row.opening_balance.pending;
            sum.entered += row.interval.time_wait_entered;
            sum.sources.extend(&row.sources);
            for (second, count) in row.time_waits.left(end) {
                *sum.time_waits.entry(second).or_default() += count;
            }
        }
        let seconds = end.saturating_sub(start) as f64 / 1e9;
        let known = sums.into_iter().filter_map(|(key, sum)| {
            let (netns, remote, _) = key;
            let settings = self.namespaces.ephemeral_ports(netns)?;
            Some((key, sum.ephemeral(remote, &settings, seconds)))
        });
        known.collect()
    }

    /// What became of the kernel's records, since the start.
    pub fn events(&self) -> Events {
        let by_kind = self.kernel.lost;
        let edges = [Kind::Opening, Kind::Closing].map(|kind| by_kind[kind as usize]);
        let [seen, lost, left_out] = self.kernel.totals();
        let kept_from_books = self.undecided.filtered() + self.undecided.waiting();
        Events {
            // A tick's counters are older than the records that came after it.
            seen: seen.max(self.received.saturating_add(lost).saturating_add(left_out)),
            delivered: self.received.saturating_sub(kept_from_books),
            lost,
            lost_edges: edges.into_iter().fold(0, u64::saturating_add),
            filtered: left_out.saturating_add(self.undecided.filtered()),
            missed: self.kernel.missed,
            gaps: self.gaps,
            unreadable: self.unreadable,
        }
    }
}

/// Where the clients of a row connect to, if it tells that apart.
fn destination(key: &RowKey) -> Option<DestinationKey> {
    (key.role == Role::Client).then_some(())?;
    Some((key.netns, key.remote?, key.port?))
}

impl Row {
    /// A server's owners are those of its listeners, so long as there are any.
    fn learn_owners(&mut self, key: &RowKey, listeners: &Listeners) {
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
    fn has_something_to_say(&self, start: Nanos) -> bool {
        let interval = &self.interval;
        let Counters { attempts, established, adopted, .. } = interval;
        attempts + established + adopted > 0
            || interval.synack_retransmits > 0
            || interval.resets_total() > 0
            || SynQueueEvent::ALL.iter().any(|&what| interval.syn_queue(what) > 0)
            || interval.time_wait_entered + interval.time_wait_overflowed > 0
            || self.uptime.has_changed_since(start)
            || interval.sum(|_| true) > 0
            || self.gauges != Gauges::default()
            || self.opening_balance != Gauges::default()
            || !self.scanned.is_empty()
            || self.time_waits.peak() > 0
    }

    /// What it has counted in the interval, which it gives away, and what is so at its end.
    fn stats(&mut self) -> RowStats {
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

    fn begin_interval(&mut self) {
        self.interval = Counters::default();
        self.opening_balance = self.gauges;
        self.time_waits.begin_interval();
        self.accept_peak = 0;
        self.accept_limit = 0;
    }
}
