//! Parses reports, checks their invariants, and compares the statistics of rows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use synfin::tcp::close_reason::{Class, CloseReason, Phase};

/// The columns that tests compare: names, or prefixes of names.
const EXACT: [&str; 17] = [
    "attempts",
    "pending",
    "failed",
    "failures.",
    "established",
    "adopted",
    "open",
    "states.",
    "closed",
    "closes.",
    "handshake.clean.count",
    "handshake.retransmitted.count",
    "handshake.unmeasured.count",
    "time_wait.now",
    "time_wait.entered",
    "time_wait.overflowed",
    "time_wait.fin_wait2_orphans",
];

/// The compared counts of a row that are not zero, by column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RowCounts(BTreeMap<String, u64>);

impl RowCounts {
    /// Connections that clients established without a retransmission.
    pub(crate) fn clients(count: u64) -> Self {
        Self::servers(count).and("attempts", count)
    }

    /// Connections that servers established without a retransmission.
    pub(crate) fn servers(count: u64) -> Self {
        Self::default().and("established", count).and("handshake.clean.count", count)
    }

    /// Adds to another column.
    pub(crate) fn and(mut self, column: &str, count: u64) -> Self {
        if count > 0 {
            *self.0.entry(column.to_owned()).or_default() += count;
        }
        self
    }

    /// This number of the established connections has closed for this reason.
    pub(crate) fn closed(self, reason: &str, count: u64) -> Self {
        self.and("closed", count).and(&format!("closes.{reason}"), count)
    }

    /// This number of the established connections is in this state.
    pub(crate) fn open(self, state: &str, count: u64) -> Self {
        self.and("open", count).and(&format!("states.{state}"), count)
    }

    /// This number of further attempts has failed for this reason.
    pub(crate) fn failed(self, reason: &str, count: u64) -> Self {
        self.and("attempts", count).and("failed", count).and(&format!("failures.{reason}"), count)
    }

    /// This number of further attempts is pending.
    pub(crate) fn pending(self, count: u64) -> Self {
        self.and("attempts", count).and("pending", count).and("states.syn_sent", count)
    }

    /// This number of TIME_WAITs was entered, and none has ended.
    pub(crate) fn time_waits(self, count: u64) -> Self {
        self.and("time_wait.entered", count).and("time_wait.now", count)
    }

    /// All handshakes so far had a retransmission.
    pub(crate) fn retransmitted(mut self) -> Self {
        let count = self.0.remove("handshake.clean.count").unwrap_or(0);
        self.and("handshake.retransmitted.count", count)
    }

    /// The sum over several rows, or over the connections of a row.
    pub(crate) fn sum<'a>(counts: impl IntoIterator<Item = &'a Self>) -> Self {
        let columns = counts.into_iter().flat_map(|counts| &counts.0);
        columns.fold(Self::default(), |sum, (column, &count)| sum.and(column, count))
    }

    /// The counts in a report's row.
    fn of(row: &Row) -> Self {
        // Not every kernel reports a server's attempts.
        let is_known = |column: &str| column != "attempts" || row.0["role"] == "client";
        let is_exact = |column: &str| {
            is_known(column)
                && EXACT.iter().any(|&exact| {
                    column == exact || (exact.ends_with('.') && column.starts_with(exact))
                })
        };
        let mut counts = BTreeMap::new();
        flatten(&row.0, "", &mut |column, value| {
            if is_exact(column) && value > 0 {
                counts.insert(column.to_owned(), value);
            }
        });
        Self(counts)
    }

    fn count(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

fn flatten(value: &Value, name: &str, each: &mut impl FnMut(&str, u64)) {
    if let Some(number) = value.as_u64() {
        each(name, number);
    }
    for (part, inner) in value.as_object().into_iter().flatten() {
        let dot = if name.is_empty() { "" } else { "." };
        flatten(inner, &format!("{name}{dot}{part}"), each);
    }
}

/// A report.
pub(crate) struct Report(Value);

/// The row of a port in a report.
#[derive(Debug)]
pub(crate) struct Row(Value);

/// A report or metrics page with counts of records.
pub(crate) trait Events {
    /// The number of records that were seen, lost, missed …
    fn event(&self, name: &str) -> u64;
}

impl Events for Report {
    fn event(&self, name: &str) -> u64 {
        Self::event(self, name)
    }
}

impl Report {
    /// Parses a report, and checks the invariants of every report.
    #[track_caller]
    pub(crate) fn new(report: Value) -> Self {
        let report = Self(report);
        for row in report.0["ports"].as_array().expect("ports") {
            Row(row.clone()).check_accounts();
        }
        report
    }

    /// Checks that every record had been taken: at a quiet moment or the end of a trace.
    #[track_caller]
    pub(crate) fn complete(self) -> Self {
        self.check_complete();
        self
    }

    /// The same, of a report that is still needed elsewhere.
    #[track_caller]
    pub(crate) fn check_complete(&self) {
        let known = ["delivered", "lost", "filtered"].map(|it| self.event(it)).iter().sum();
        let came = self.event("in_flight_before") + self.event("seen");
        assert_eq!((came, self.event("in_flight")), (known, 0), "{}", self.0["events"]);
    }

    /// One of the report's counts of events.
    #[track_caller]
    pub(crate) fn event(&self, name: &str) -> u64 {
        self.0["events"][name].as_u64().unwrap_or_else(|| panic!("no events.{name}"))
    }

    /// The description of the host.
    pub(crate) fn host(&self) -> &Value {
        &self.0["host"]
    }

    /// The interval of the report.
    pub(crate) fn interval(&self) -> &Value {
        &self.0["interval"]
    }

    /// Number of records that the eBPF programs could not write, as far as known.
    pub(crate) fn missing(&self) -> u64 {
        self.event("missed") + self.event("gaps")
    }

    /// The start of its interval in RFC 3339.
    pub(crate) fn begun(&self) -> &str {
        self.0["interval"]["start"].as_str().expect("a time")
    }

    /// Whether the report says that its counts are lower bounds.
    pub(crate) fn says_lower_bounds(&self) -> bool {
        self.0["events"]["lower_bounds"] == true
    }

    /// Checks that no record is missing.
    #[track_caller]
    pub(crate) fn check_nothing_lost(&self) {
        let lost = ["lost", "missed", "gaps", "unreadable"].map(|name| self.event(name));
        assert_eq!(lost, [0; 4], "{}", self.0["events"]);
        assert!(!self.says_lower_bounds());
    }

    /// The row of a port; an empty row if there is none.
    pub(crate) fn row(&self, role: &str, port: u16) -> Row {
        self.first_row(|row| row["role"] == role && row["port"] == port)
    }

    /// The row of connections of unknown role; an empty row if there are none.
    pub(crate) fn of_unknown_role(&self) -> Row {
        self.first_row(|row| row["role"] == "unknown")
    }

    fn first_row(&self, which: impl Fn(&Value) -> bool) -> Row {
        Row(self.rows().iter().find(|row| which(row)).cloned().unwrap_or_default())
    }

    /// The difference of a port's counts from the expected ones.
    pub(crate) fn difference(&self, role: &str, port: u16, expected: &RowCounts) -> Option<String> {
        let difference = self.counts(|row| row["role"] == role && row["port"] == port);
        difference.difference(expected).map(|what| format!("{role} {port}: {what}"))
    }

    /// The sum of the rows that `which` selects.
    pub(crate) fn counts(&self, which: impl Fn(&Value) -> bool) -> RowCounts {
        let rows = self.rows().iter().filter(|row| which(row));
        RowCounts::sum(&rows.map(|row| RowCounts::of(&Row(row.clone()))).collect::<Vec<_>>())
    }

    /// All rows.
    pub(crate) fn rows(&self) -> &[Value] {
        self.0["ports"].as_array().expect("ports")
    }
}

impl RowCounts {
    /// The difference from the expected counts.
    pub(crate) fn difference(&self, expected: &Self) -> Option<String> {
        let found = self;
        let columns: BTreeSet<_> = found.0.keys().chain(expected.0.keys()).collect();
        let differences: Vec<_> = columns
            .into_iter()
            .map(|column| (column, found.count(column), expected.count(column)))
            .filter(|(_, found, expected)| found != expected)
            .map(|(column, found, expected)| format!("{column} is {found}, not {expected}"))
            .collect();
        (!differences.is_empty()).then(|| differences.join("; "))
    }
}

impl Row {
    /// A column by its public name; 0 if it is unknown or the row does not exist.
    pub(crate) fn count(&self, name: &str) -> u64 {
        name.split('.').fold(&self.0, |value, part| &value[part]).as_u64().unwrap_or(0)
    }

    /// What `sockstat.tw` counts: sockets in TIME_WAIT, and orphans in FIN_WAIT2.
    pub(crate) fn timewait_sockets(&self) -> u64 {
        self.count("time_wait.now") + self.count("time_wait.fin_wait2_orphans")
    }

    fn sum_of(&self, column: &str, which: impl Fn(&str) -> bool) -> u64 {
        let counts = self.0[column].as_object().unwrap_or_else(|| panic!("no {column}"));
        let which = counts.iter().filter(|(name, _)| which(name));
        which.map(|(_, count)| count.as_u64().expect("a count")).sum()
    }

    /// Checks that sums agree with their parts.
    #[track_caller]
    fn check_accounts(&self) {
        let column = |name: &str| self.count(name);
        let sum = |name: &str| self.sum_of(name, |_| true);
        let accounts = [
            ("failed", column("failed"), sum("failures")),
            ("closed", column("closed"), sum("closes")),
            ("open + pending", column("open") + column("pending"), sum("states")),
            (
                "established + adopted",
                column("open_start") + column("established") + column("adopted"),
                column("open") + column("closed"),
            ),
            (
                "handshakes",
                column("established"),
                column("handshake.clean.count")
                    + column("handshake.retransmitted.count")
                    + column("handshake.unmeasured.count"),
            ),
            (
                "abnormal",
                column("abnormal"),
                self.sum_of("closes", |id| reason(id).class() == Class::Abnormal),
            ),
        ];
        for (account, left, right) in accounts {
            assert_eq!(left, right, "{account} of {:#}", self.0);
        }
        // A server's handshakes may begin and end before there is a connection.
        if self.0["role"] == "client" {
            assert_eq!(
                column("pending_start") + column("attempts"),
                column("pending") + column("failed") + column("established"),
                "attempts of {:#}",
                self.0
            );
        }
        let stray = |outcome| move |id: &str| reason(id).phase() != outcome;
        assert_eq!(self.sum_of("failures", stray(Phase::Handshake)), 0, "{:#}", self.0);
        assert_eq!(self.sum_of("closes", stray(Phase::Established)), 0, "{:#}", self.0);
        for class in ["clean", "retransmitted"] {
            let class = &self.0["handshake"][class];
            let buckets = class["buckets"].as_array().expect("buckets");
            let count: u64 = buckets.iter().filter_map(|bucket| bucket[1].as_u64()).sum();
            assert_eq!(class["count"], count, "buckets of {:#}", self.0);
        }
    }
}

fn reason(id: &str) -> CloseReason {
    CloseReason::from_id(id).unwrap_or_else(|| panic!("{id} is no reason"))
}
