//! The rows that have series of their own, and their totals.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use super::budget::{SERIES_OF_A_ROW, SERIES_OF_THE_HOST};
use crate::{
    findings::{Severity, diagnose},
    host::own_usage::OwnUsage,
    tcp::{coverage::OptionalHook, group_by::By, role::Role},
    trace::{
        counters::{KERNEL_COUNTERS, add_increases},
        session::Session,
        time::Nanos,
    },
    tracker::{
        Common, Counters, Events, Gauges, LastMinute, RowSnapshot, ScanGauges, Snapshot, Tables,
    },
};

/// The value of the label `port` for ports without series of their own.
pub const OTHER: &str = "other";

/// Number of intervals with failures after which a client that never succeeds gets series of its
/// own: it is then a service that is down rather than a port scan.
const PERSISTENT: u32 = 3;

/// Maximum number of such clients that are counted.
const MOST_FAILING: usize = 1_000;

/// The default maximum number of series: enough for 100 service ports, each in both roles.
pub const DEFAULT_SERIES: usize = 20_000;

/// Time between checks for findings.
const CHECK: Nanos = 5_000_000_000;

/// The exported values as of the last [`Metrics::take`].
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Maximum number of ports with series of their own.
    room: usize,
    pub(super) rows: BTreeMap<RowLabels, Totals>,
    /// Number of intervals with failures, of clients without series.
    failing: BTreeMap<RowLabels, u32>,
    pub(super) session: Arc<Session>,
    /// End of the last interval.
    pub(super) end: Nanos,
    pub(super) events: Events,
    pub(super) kernel_counts: [u64; KERNEL_COUNTERS.len()],
    pub(in crate::metrics) tables: Tables,
    /// Age of the oldest of the last scans; `None` before the first scan.
    pub(super) scan_age: Option<Nanos>,
    minute: LastMinute,
    checked: Nanos,
    /// Number of findings in the last minute.
    pub(super) findings: BTreeMap<FindingLabels, u64>,
    pub(super) own_usage: OwnUsage,
}

/// The severity, the most urgent first, the rule, the role and the port.
pub(super) type FindingLabels = (Reverse<Severity>, &'static str, Role, String);

/// The key of a row; without a port it is the sum of the remaining rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowLabels {
    pub(super) role: Role,
    pub(super) port: Option<u16>,
}

impl RowLabels {
    fn of(row: &RowSnapshot) -> Self {
        Self { role: row.identity.role, port: port(row) }
    }
}

/// The totals and gauges of a row.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) counters: Counters,
    pub(super) now: Now,
    pub(super) owner: OwnerNames,
}

/// The names of the owner of a row's sockets; `None` if unknown or if there are several.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnerNames {
    pub(super) owner: Option<Arc<str>>,
    pub(super) container: Option<Arc<str>>,
    pub(super) pod: Option<Arc<str>>,
}

impl OwnerNames {
    /// Takes the names of the next interval, if it has an owner at all.
    fn renew(&mut self, row: &RowSnapshot) {
        let identity = &row.identity;
        if identity.owner != Common::Unknown {
            *self = Self {
                owner: identity.owner.one().cloned(),
                container: identity.container.one().cloned(),
                pod: identity.pod.one().cloned(),
            };
        }
    }
}

/// The gauges of a row.
#[derive(Clone, Debug, Default)]
pub(super) struct Now {
    pub(super) gauges: Gauges,
    pub(super) scanned: ScanGauges,
    pub(super) time_wait: u64,
    /// The largest share of any destination; `None` if unknown or for servers.
    pub(super) ephemeral_share: Option<f64>,
}

impl Now {
    fn add(&mut self, row: &RowSnapshot) {
        self.gauges.merge(&row.stats.gauges);
        self.scanned.merge(&row.stats.scanned);
        self.time_wait += row.stats.time_wait_now;
        let share = row.stats.ephemeral_share();
        self.ephemeral_share = match (self.ephemeral_share, share) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
    }
}

impl Metrics {
    /// Limits the number of series, which is at least [`Self::LEAST_SERIES`].
    pub fn new(series: usize) -> Self {
        let room = series.saturating_sub(SERIES_OF_THE_HOST) / SERIES_OF_A_ROW;
        let rest = Role::ALL.map(|role| (RowLabels { role, port: None }, Totals::default()));
        Self {
            room: room.saturating_sub(rest.len()),
            rows: rest.into(),
            failing: BTreeMap::new(),
            session: Arc::default(),
            end: 0,
            events: Events::default(),
            kernel_counts: [0; KERNEL_COUNTERS.len()],
            tables: Tables::default(),
            scan_age: None,
            minute: LastMinute::default(),
            checked: 0,
            findings: BTreeMap::new(),
            own_usage: OwnUsage::default(),
        }
    }

    /// The least number of series: those of the host, of the remaining rows of each role, and of one
    /// port.
    pub const LEAST_SERIES: usize = SERIES_OF_THE_HOST + (Role::ALL.len() + 1) * SERIES_OF_A_ROW;

    /// Begins a trace.
    pub fn begin(&mut self, session: &Arc<Session>) {
        self.session = session.clone();
    }

    /// Adds an interval.
    pub fn take(&mut self, snapshot: &Snapshot) {
        let rows = snapshot.rows(By::Port);
        self.watch_failing(&rows);
        self.admit(&rows);
        self.rows.values_mut().for_each(|totals| totals.now = Now::default());
        for row in &rows {
            let labels = RowLabels::of(row);
            let rest = RowLabels { port: None, ..labels };
            let own = if self.rows.contains_key(&labels) { labels } else { rest };
            let totals = self.rows.entry(own).or_default();
            totals.counters.merge(&row.stats.counters);
            totals.now.add(row);
            totals.owner.renew(row);
        }
        self.check(snapshot);
        self.events.add(&snapshot.events);
        add_increases(&mut self.kernel_counts, &snapshot.kernel_counts);
        self.end = snapshot.end;
        self.tables = snapshot.tables;
        self.scan_age = snapshot.scans.oldest.map(|oldest| snapshot.end.saturating_sub(oldest));
    }

    /// Records what synfin itself uses.
    #[cfg(feature = "live")]
    pub(crate) fn used(&mut self, usage: OwnUsage) {
        self.own_usage = usage;
    }

    /// Checks the last minute for findings, if the last check was some time ago.
    fn check(&mut self, snapshot: &Snapshot) {
        self.minute.add(snapshot);
        if snapshot.end.saturating_sub(self.checked) < CHECK {
            return;
        }
        self.checked = snapshot.end;
        self.findings.clear();
        for finding in diagnose(&self.session, self.minute.whole()) {
            let own = RowLabels { role: finding.role, port: finding.port };
            let port = finding.port.filter(|_| self.rows.contains_key(&own));
            let port = port.map_or(OTHER.to_owned(), |port| port.to_string());
            let labels = (Reverse(finding.severity), finding.rule.id, finding.role, port);
            *self.findings.entry(labels).or_default() += 1;
        }
    }

    /// Gives rows series of their own, which they keep, because a counter must not decrease. Ports of
    /// the filter and ports with a listener come first, then the busiest, then those that only fail.
    fn admit(&mut self, rows: &[RowSnapshot]) {
        let named = &self.session.filter.service_ports;
        let rank = |row: &RowSnapshot| {
            let is_named = port(row).is_some_and(|port| named.iter().any(|of| of.contains(port)));
            let listens = row.stats.scanned.listeners > 0;
            (is_named || listens, row.stats.counters.established)
        };
        let mut new: Vec<_> = rows
            .iter()
            .map(|row| (rank(row), RowLabels::of(row)))
            .filter(|((is_first, established), labels)| {
                labels.port.is_some()
                    && !self.rows.contains_key(labels)
                    && (*is_first || *established > 0 || self.persists(labels))
            })
            .collect();
        new.sort_by(|(one, _), (other, _)| other.cmp(one));
        let left = (self.room + Role::ALL.len()).saturating_sub(self.rows.len());
        for (_, labels) in new.into_iter().take(left) {
            self.failing.remove(&labels);
            self.rows.insert(labels, Totals::default());
        }
    }

    fn watch_failing(&mut self, rows: &[RowSnapshot]) {
        for row in rows.iter().filter(|row| row.stats.counters.failed() > 0) {
            let labels = RowLabels::of(row);
            if labels.role == Role::Client && !self.rows.contains_key(&labels) {
                if self.failing.len() >= MOST_FAILING {
                    // A persistent failure will be counted again.
                    self.failing.clear();
                }
                *self.failing.entry(labels).or_default() += 1;
            }
        }
    }

    fn persists(&self, labels: &RowLabels) -> bool {
        self.failing.get(labels).is_some_and(|intervals| *intervals >= PERSISTENT)
    }

    /// The accuracy of waits for accept().
    pub(super) fn accept_wait_accuracy(&self) -> &'static str {
        self.session.coverage.accuracy(OptionalHook::AcceptWait).name()
    }

    /// Whether an optional hook is attached.
    pub(super) fn shows(&self, what: OptionalHook) -> bool {
        self.session.coverage.has(what)
    }
}

fn port(row: &RowSnapshot) -> Option<u16> {
    row.identity.port.one().copied()
}
