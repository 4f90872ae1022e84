//! A report's statistics of a port, and the expected ones.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use synfin::tcp::close_reason::{Class, CloseReason, Phase};

/// The exact figures: names, or prefixes of names.
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

/// The exact figures of a row that are not zero, by their public names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Books(BTreeMap<String, u64>);

impl Books {
    /// Connections that clients established without a retransmission.
    pub(crate) fn clients(count: u64) -> Self {
        Self::servers(count).and("attempts", count)
    }

    /// Connections that servers established without a retransmission.
    pub(crate) fn servers(count: u64) -> Self {
        Self::default().and("established", count).and("handshake.clean.count", count)
    }

    /// Sets another figure.
    pub(crate) fn and(mut self, figure: &str, count: u64) -> Self {
        if count > 0 {
            *self.0.entry(figure.to_owned()).or_default() += count;
        }
        self
    }

    /// So many of those established have closed for this reason.
    pub(crate) fn closed(self, reason: &str, count: u64) -> Self {
        self.and("closed", count).and(&format!("closes.{reason}"), count)
    }

    /// So many of those established are in this state.
    pub(crate) fn open(self, state: &str, count: u64) -> Self {
        self.and("open", count).and(&format!("states.{state}"), count)
    }

    /// So many further attempts have failed for this reason.
    pub(crate) fn failed(self, reason: &str, count: u64) -> Self {
        self.and("attempts", count).and("failed", count).and(&format!("failures.{reason}"), count)
    }

    /// So many further attempts wait for an answer.
    pub(crate) fn pending(self, count: u64) -> Self {
        self.and("attempts", count).and("pending", count).and("states.syn_sent", count)
    }

    /// So many have entered TIME_WAIT and are still there.
    pub(crate) fn time_waits(self, count: u64) -> Self {
        self.and("time_wait.entered", count).and("time_wait.now", count)
    }

    /// All handshakes so far had a retransmission.
    pub(crate) fn retransmitted(mut self) -> Self {
        let count = self.0.remove("handshake.clean.count").unwrap_or(0);
        self.and("handshake.retransmitted.count", count)
    }

    /// The sum over several rows, or over the connections of a row.
    pub(crate) fn sum<'a>(books: impl IntoIterator<Item = &'a Self>) -> Self {
        let figures = books.into_iter().flat_map(|books| &books.0);
        figures.fold(Self::default(), |sum, (figure, &count)| sum.and(figure, count))
    }

    /// The figures of a report's row.
    fn of(row: &Row) -> Self {
        // Not every kernel shows a server's attempts.
        let is_known = |figure: &str| figure != "attempts" || row.0["role"] == "client";
        let is_exact = |figure: &str| {
            is_known(figure)
                && EXACT.iter().any(|&exact| {
                    figure == exact || (exact.ends_with('.') && figure.starts_with(exact))
                })
        };
        let mut books = BTreeMap::new();
        flatten(&row.0, "", &mut |figure, value| {
            if is_exact(figure) && value > 0 {
                books.insert(figure.to_owned(), value);
            }
        });
        Self(books)
    }

    fn figure(&self, name: &str) -> u64 {
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

/// A port's row in it.
pub(crate) struct Row(Value);

/// A report or page with counts of the kernel side's records.
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
        let [seen, delivered, lost, filtered, in_flight] =
            ["seen", "delivered", "lost", "filtered", "in_flight"].map(|name| report.event(name));
        assert_eq!((seen, in_flight), (delivered + lost + filtered, 0), "{}", report.0["events"]);
        report
    }

    /// One of the figures about events.
    #[track_caller]
    pub(crate) fn event(&self, name: &str) -> u64 {
        self.0["events"][name].as_u64().unwrap_or_else(|| panic!("no events.{name}"))
    }

    /// The description of the host.
    pub(crate) fn host(&self) -> &Value {
        &self.0["host"]
    }

    /// The interval that it covers.
    pub(crate) fn interval(&self) -> &Value {
        &self.0["interval"]
    }

    /// Records that the kernel side could not write, as far as known.
    pub(crate) fn missing(&self) -> u64 {
        self.event("missed") + self.event("gaps")
    }

    /// The begin of its interval, in RFC 3339.
    pub(crate) fn begun(&self) -> &str {
        self.0["interval"]["start"].as_str().expect("a time")
    }

    /// Whether it says that counts are lower bounds.
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
        let rows = self.0["ports"].as_array().expect("ports");
        let row = rows.iter().find(|row| row["role"] == role && row["port"] == port);
        Row(row.cloned().unwrap_or_default())
    }

    /// The difference between a port's statistics and the expected ones.
    pub(crate) fn difference(&self, role: &str, port: u16, expected: &Books) -> Option<String> {
        let difference = self.books(|row| row["role"] == role && row["port"] == port);
        difference.difference(expected).map(|what| format!("{role} {port}: {what}"))
    }

    /// The sum of the rows that `which` selects.
    pub(crate) fn books(&self, which: impl Fn(&Value) -> bool) -> Books {
        let rows = self.rows().iter().filter(|row| which(row));
        Books::sum(&rows.map(|row| Books::of(&Row(row.clone()))).collect::<Vec<_>>())
    }

    /// All rows.
    pub(crate) fn rows(&self) -> &[Value] {
        self.0["ports"].as_array().expect("ports")
    }
}

impl Books {
    /// How these differ from the expected ones.
    pub(crate) fn difference(&self, expected: &Self) -> Option<String> {
        let found = self;
        let figures: BTreeSet<_> = found.0.keys().chain(expected.0.keys()).collect();
        let differences: Vec<_> = figures
            .into_iter()
            .map(|figure| (figure, found.figure(figure), expected.figure(figure)))
            .filter(|(_, found, expected)| found != expected)
            .map(|(figure, found, expected)| format!("{figure} is {found}, not {expected}"))
            .collect();
        (!differences.is_empty()).then(|| differences.join("; "))
    }
}

impl Row {
    /// A figure by its public name; 0 if it is unknown or there is no such row.
    pub(crate) fn figure(&self, name: &str) -> u64 {
        name.split('.').fold(&self.0, |value, part| &value[part]).as_u64().unwrap_or(0)
    }

    fn sum_of(&self, figure: &str, which: impl Fn(&str) -> bool) -> u64 {
        let counts = self.0[figure].as_object().unwrap_or_else(|| panic!("no {figure}"));
        let which = counts.iter().filter(|(name, _)| which(name));
        which.map(|(_, count)| count.as_u64().expect("a count")).sum()
    }

    /// Checks that sums agree with their parts.
    #[track_caller]
    fn check_accounts(&self) {
        let figure = |name: &str| self.figure(name);
        let sum = |name: &str| self.sum_of(name, |_| true);
        let accounts = [
            ("failed", figure("failed"), sum("failures")),
            ("closed", figure("closed"), sum("closes")),
            ("open + pending", figure("open") + figure("pending"), sum("states")),
            (
                "established + adopted",
                figure("open_start") + figure("established") + figure("adopted"),
                figure("open") + figure("closed"),
            ),
            (
                "handshakes",
                figure("established"),
                figure("handshake.clean.count")
                    + figure("handshake.retransmitted.count")
                    + figure("handshake.unmeasured.count"),
            ),
            (
                "abnormal",
                figure("abnormal"),
                self.sum_of("closes", |id| reason(id).class() == Class::Abnormal),
            ),
        ];
        for (account, left, right) in accounts {
            assert_eq!(left, right, "{account} of {:#}", self.0);
        }
        // A server's handshakes may begin and end before they are connections.
        if self.0["role"] == "client" {
            assert_eq!(
                figure("pending_start") + figure("attempts"),
                figure("pending") + figure("failed") + figure("established"),
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
