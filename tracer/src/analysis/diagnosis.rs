//! The output of `diagnose`: a paragraph per finding, or one JSON object.

use std::io::{self, Write};

use serde_json::Value as Json;

use crate::{
    analysis::reliability::{MissingRecords, NO_CONNECTION},
    findings::{Finding, Severity, Traffic, diagnose, list},
    host::services::Services,
    message::{
        escape::{escape_control, write_json},
        wrap::{labelled, width, wrap_with_label},
    },
    output::{
        SCHEMA_HELP,
        column::{Column, Value, Visibility::Json as OnlyJson, columns, to_object},
        finding,
        report::EVENTS,
    },
    tcp::{
        close_reason::{Class, CloseReason},
        group_by::By,
        labels::Enumeration,
    },
    trace::{
        session::Session,
        time::{ClockAnchor, Nanos, date},
    },
    tracker::{RowSnapshot, Snapshot},
};

/// Version of the JSON object.
const SCHEMA: u64 = 2;

/// Key of the findings in the JSON object.
pub const FINDINGS: &str = "findings";

/// A snapshot and its findings.
pub struct Diagnosis {
    clock: ClockAnchor,
    snapshot: Snapshot,
    findings: Vec<Finding>,
}

/// The columns of a diagnosis besides its findings and the counts of events.
pub const COLUMNS: &[Column<Diagnosis>] = columns! {
    "schema" "" Version(SCHEMA), OnlyJson, SCHEMA_HELP, |_| Value::Int(SCHEMA);
    "interval.start" "" Time, OnlyJson, "When the observation began.", |d| d.date(d.snapshot.start);
    "interval.end" "" Time, OnlyJson, "When the observation ended.", |d| d.date(d.snapshot.end);
    "interval.seconds" "" Seconds, OnlyJson, "Length of the observation.", |d| Value::Seconds(d.snapshot.seconds());
    "connections" "" Count("connections"), OnlyJson, "Number of connections observed: among few, a problem may be chance.",
        |d| Value::Int(d.connections());
    "bad" "" Count("connections"), OnlyJson, "Number of connections that failed or ended abnormally, with or without a finding about them.",
        |d| Value::Int(d.by_reason().map(|(_, count)| count).sum());
    "bad_by_reason" "" Counts(BAD_REASONS), OnlyJson, "The same by reason.",
        |d| Value::Counts(d.by_reason().map(|(reason, count)| (reason.id(), count)).collect());
};

const BAD_REASONS: Enumeration =
    Enumeration { name: "reason", all: || abnormal_reasons().map(CloseReason::id).collect() };

fn abnormal_reasons() -> impl Iterator<Item = CloseReason> {
    CloseReason::ALL.iter().copied().filter(|reason| reason.class() == Class::Abnormal)
}

impl Diagnosis {
    /// Checks all rules.
    pub(crate) fn new(session: &Session, snapshot: Snapshot, traffic: &Traffic<'_>) -> Self {
        let findings = diagnose(session, &snapshot);
        let findings = findings.into_iter().map(|finding| finding.of_traffic(traffic)).collect();
        Self { clock: session.clock, snapshot, findings }
    }

    /// Why the absence of findings means nothing; `None` if it does.
    pub(crate) fn unreliable(&self) -> Option<String> {
        let is_silent = !self.snapshot.has_traffic();
        let missing = MissingRecords::of(&self.snapshot.events);
        missing.doubt().or_else(|| is_silent.then(|| NO_CONNECTION.to_owned()))
    }

    fn date(&self, time: Nanos) -> Value {
        Value::Text(date(self.clock.date(time)))
    }

    /// The most urgent finding, if it is at least this urgent, and the number of others that are.
    pub(crate) fn at_least(&self, least: Severity) -> Option<String> {
        let mut urgent = self.findings.iter().filter(|finding| finding.severity >= least);
        let first = urgent.next()?.headline(None);
        Some(match urgent.count() {
            0 => first,
            others => format!("{first}; and {others} more"),
        })
    }

    /// Number of connections that ended for each abnormal reason.
    fn by_reason(&self) -> impl Iterator<Item = (CloseReason, u64)> {
        abnormal_reasons().map(|reason| (reason, self.snapshot.ended(reason)))
    }

    /// What failed or ended abnormally although no finding says so; `None` if nothing did.
    fn below_thresholds(&self) -> Option<String> {
        let rows = self.snapshot.rows_by_place();
        let unexplained = |reason: CloseReason| {
            let is_explained = |row: &&RowSnapshot| {
                self.findings.iter().any(|finding| finding.explains(&row.identity.name, reason))
            };
            let rows = rows.iter().filter(|row| row.stats.counters.ended(reason) > 0);
            let rows = rows.filter(|row| !is_explained(row));
            rows.map(|row| row.stats.counters.ended(reason)).sum::<u64>()
        };
        let others: Vec<_> =
            abnormal_reasons().map(|reason| (reason, unexplained(reason))).collect();
        let count: u64 = others.iter().map(|(_, count)| count).sum();
        let reasons = list(others.into_iter());
        let what = if count == 1 { "connection" } else { "connections" };
        let place = if self.findings.is_empty() { "nothing above" } else { "below" };
        (count > 0).then(|| {
            format!("{place} the thresholds: {count} {what} failed or ended abnormally: {reasons}")
        })
    }

    /// Number of connections that were open or ended.
    fn connections(&self) -> u64 {
        let of_row = |row: &RowSnapshot| {
            row.stats.gauges.open
                + row.stats.gauges.pending
                + row.stats.counters.closed()
                + row.stats.counters.failed()
        };
        self.snapshot.rows(By::Netns).iter().map(of_row).sum()
    }

    /// Writes one JSON object.
    ///
    /// # Errors
    ///
    /// Writing fails.
    pub fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let mut object = to_object(COLUMNS, self);
        let findings = self.findings.iter().map(|finding| to_object(finding::COLUMNS, finding));
        object.insert(FINDINGS.into(), findings.collect());
        object.extend(to_object(EVENTS, &self.snapshot.events));
        write_json(out, &Json::Object(object))?;
        writeln!(out)
    }

    /// Writes a paragraph per finding, with the names of services where known.
    pub(crate) fn write_text(&self, services: &Services, out: &mut impl Write) -> io::Result<()> {
        let width = width();
        for finding in &self.findings {
            let service = finding.port.and_then(|port| services.name(port));
            writeln!(out, "{}", escape_control(&finding.headline(service)))?;
            for (label, text) in finding.fields() {
                out.write_all(wrap_with_label(label, &escape_control(&text), width).as_bytes())?;
            }
            for command in finding.next_step.commands() {
                // In one line, so that it can be copied.
                writeln!(out, "{}{}", labelled("next"), escape_control(command))?;
            }
            writeln!(out)?;
        }
        if let Some(below) = self.below_thresholds() {
            writeln!(out, "{below}")?;
        }
        let found = match self.findings.len() {
            0 => "no findings".to_owned(),
            1 => "1 finding".to_owned(),
            count => format!("{count} findings"),
        };
        let is_lower = self.snapshot.events.are_lower_bounds();
        let lost = if is_lower { "; events were lost, so there may be more" } else { "" };
        let (connections, seconds) = (self.connections(), self.snapshot.seconds());
        writeln!(out, "{found} among {connections} connections in {seconds:.1} s{lost}")
    }
}
