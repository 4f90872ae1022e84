//! The output of `diagnose`: a paragraph per finding, or one JSON object.

use std::io::{self, Write};

use serde_json::Value as Json;

use crate::{
    analysis::diagnose::{FINDING_COLUMNS, Finding, diagnose},
    host::services::Services,
    message::{
        escape::{escape_control, write_json},
        wrap::{width, wrap_with_label},
    },
    output::{
        SCHEMA_HELP,
        column::{Column, Value, Visibility::Json as OnlyJson, columns, to_object},
        report::EVENTS,
    },
    tcp::group_by::By,
    trace::{
        session::Session,
        time::{ClockAnchor, Nanos, date},
    },
    tracker::{RowSnapshot, Snapshot},
};

/// Version of the JSON object.
const SCHEMA: u64 = 1;

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
};

impl Diagnosis {
    /// Checks all rules.
    pub fn new(session: &Session, snapshot: Snapshot) -> Self {
        let findings = diagnose(session, &snapshot);
        Self { clock: session.clock, snapshot, findings }
    }

    fn date(&self, time: Nanos) -> Value {
        Value::Text(date(self.clock.date(time)))
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
        let findings = self.findings.iter().map(|finding| to_object(FINDING_COLUMNS, finding));
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
            writeln!(out, "{}: {}", escape_control(&finding.place(service)), finding.rule.title)?;
            for (label, text) in finding.fields() {
                out.write_all(wrap_with_label(label, &escape_control(&text), width).as_bytes())?;
            }
            writeln!(out)?;
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
