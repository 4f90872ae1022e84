//! The values that sinks see: a copy of the books over an interval.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use synfin_common::event::Kind;

use super::{
    Tracker,
    machine::Role,
    ports::{Counters, Gauges, Row, Walked},
};
use crate::input::Nanos;

/// The books over an interval, per role and service port.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When the interval began.
    pub start: Nanos,
    /// When it ended.
    pub end: Nanos,
    /// The rows in which there is anything to say.
    pub rows: Vec<RowSnapshot>,
    /// What became of the kernel's records in the interval.
    pub events: Events,
    /// How full the tables are.
    pub tables: Tables,
}

/// One row.
#[derive(Clone, Debug)]
pub struct RowSnapshot {
    /// Which side we are.
    pub role: Role,
    /// The service port; `None` for the rest.
    pub port: Option<u16>,
    /// Who owns the sockets.
    pub owner: Ownership,
    /// What happened in the interval.
    pub counters: Counters,
    /// What is so at its end.
    pub gauges: Gauges,
    /// What was so at its start.
    pub opening_balance: Gauges,
    /// Sockets in TIME_WAIT at its end.
    pub time_wait_now: u64,
    /// The most there were.
    pub time_wait_peak: u64,
    /// What the last walk showed.
    pub walked: Walked,
    /// The most connections that were seen waiting for accept().
    pub accept_peak: u64,
}

/// Who owns the sockets of a row. Several owners are counted, never represented by one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// Nobody is known.
    #[default]
    Unknown,
    /// All known owners have this name.
    One(Arc<str>),
    /// There are this many names.
    Several(usize),
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
    /// Records between the hooks and the tracker: counted as seen while they were on their way.
    /// Negative never; nonzero at the end of a trace never.
    pub fn in_flight(&self) -> i64 {
        let known = self.delivered.saturating_add(self.lost).saturating_add(self.filtered);
        let in_flight = i128::from(self.seen) - i128::from(known);
        i64::try_from(in_flight).unwrap_or(i64::MAX)
    }

    /// Whether counts of births and ends are lower bounds.
    pub fn are_lower_bounds(&self) -> bool {
        [self.lost_edges, self.missed, self.gaps, self.unreadable].iter().any(|&count| count > 0)
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
    /// Connections that made room for others, since the start.
    pub evicted: u64,
    /// Bookings on the row of the rest for want of a row, since the start.
    pub folded: u64,
}

impl Tracker {
    /// Ends the interval and begins the next one.
    pub fn cut(&mut self) -> Snapshot {
        let (start, end) = (self.interval_start, self.now);
        let events = self.events();
        let mut groups: BTreeMap<(Role, Option<u16>), Group> = BTreeMap::new();
        for (key, row) in self.ports.iter_mut() {
            row.time_waits.expire(end);
            if row.has_something_to_say() {
                groups.entry((key.role, key.port)).or_default().add(row);
            }
            row.begin_interval();
        }
        let rows = groups.into_iter().map(|((role, port), group)| group.into_row(role, port));
        let snapshot = Snapshot {
            start,
            end,
            rows: rows.collect(),
            events: events.since(&self.events_cut),
            tables: Tables {
                connections: self.connections.len() as u64,
                evicted: self.connections.evicted(),
                folded: self.ports.folded(),
            },
        };
        self.interval_start = end;
        self.events_cut = events;
        snapshot
    }

    /// What became of the kernel's records, since the start.
    pub fn events(&self) -> Events {
        let by_kind = self.kernel.lost;
        let sum = |counts: &[u64]| counts.iter().copied().fold(0, u64::saturating_add);
        let lost = sum(&by_kind);
        Events {
            // A tick's counters are older than the records that came after it.
            seen: sum(&self.kernel.seen).max(self.delivered.saturating_add(lost)),
            delivered: self.delivered,
            lost,
            lost_edges: sum(&[by_kind[Kind::Opening as usize], by_kind[Kind::Closing as usize]]),
            filtered: 0,
            missed: self.kernel.missed,
            gaps: self.gaps,
            unreadable: self.unreadable,
        }
    }
}

/// The rows of one role and port, of all namespaces.
#[derive(Default)]
struct Group {
    counters: Counters,
    gauges: Gauges,
    opening_balance: Gauges,
    time_wait_now: u64,
    time_wait_peak: u64,
    walked: Walked,
    accept_peak: u64,
    owners: BTreeSet<Arc<str>>,
}

impl Group {
    fn add(&mut self, row: &Row) {
        self.counters.merge(&row.interval);
        self.gauges.merge(&row.gauges);
        self.opening_balance.merge(&row.opening_balance);
        self.time_wait_now += row.time_waits.now();
        self.time_wait_peak += row.time_waits.peak();
        row.walked.values().for_each(|walked| self.walked.merge(walked));
        self.accept_peak = self.accept_peak.max(row.accept_peak);
        self.owners.extend(row.owners.iter().cloned());
    }

    fn into_row(self, role: Role, port: Option<u16>) -> RowSnapshot {
        RowSnapshot {
            role,
            port,
            owner: Ownership::of(&self.owners),
            counters: self.counters,
            gauges: self.gauges,
            opening_balance: self.opening_balance,
            time_wait_now: self.time_wait_now,
            time_wait_peak: self.time_wait_peak,
            walked: self.walked,
            accept_peak: self.accept_peak,
        }
    }
}

impl Row {
    fn has_something_to_say(&self) -> bool {
        let Counters { attempts, established, adopted, .. } = self.interval;
        attempts + established + adopted > 0
            || self.interval.sum(|_| true) > 0
            || self.gauges != Gauges::default()
            || self.opening_balance != Gauges::default()
            || !self.walked.is_empty()
            || self.time_waits.peak() > 0
    }

    fn begin_interval(&mut self) {
        self.interval = Counters::default();
        self.opening_balance = self.gauges;
        self.time_waits.begin_interval();
        self.accept_peak = 0;
    }
}

impl Ownership {
    fn of(names: &BTreeSet<Arc<str>>) -> Self {
        match (names.len(), names.first()) {
            (1, Some(name)) => Self::One(name.clone()),
            (0, _) | (_, None) => Self::Unknown,
            (several, Some(_)) => Self::Several(several),
        }
    }
}
