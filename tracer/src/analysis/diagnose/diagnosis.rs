//! What was found wrong: paragraphs for the eyes, or one JSON object.

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

/// Where the findings are in it.
pub const FINDINGS: &str = "findings";

/// A snapshot, and what is wrong in it.
pub struct Diagnosis {
    clock: ClockAnchor,
    snapshot: Snapshot,
    findings: Vec<Finding>,
}

/// What a diagnosis says beside its findings and the books over the kernel's records.
pub const COLUMNS: &[Column<Diagnosis>] = columns! {
    "schema" "" Version(SCHEMA), OnlyJson, SCHEMA_HELP, |_| Value::Int(SCHEMA);
    "interval.start" "" Time, OnlyJson, "When it began to watch.", |d| d.date(d.snapshot.start);
    "interval.end" "" Time, OnlyJson, "When it had seen enough.", |d| d.date(d.snapshot.end);
    "interval.seconds" "" Seconds, OnlyJson, "How long that was.", |d| Value::Seconds(d.snapshot.seconds());
    "connections" "" Count("connections"), OnlyJson, "How many were there in that time: what is wrong with few of few may be chance.",
        |d| Value::Int(d.connections());
};

impl Diagnosis {
    /// Looks for everything.
    pub fn new(session: &Session, snapshot: Snapshot) -> Self {
        let findings = diagnose(session, &snapshot);
        Self { clock: session.clock, snapshot, findings }
    }

    fn date(&self, time: Nanos) -> Value {
        Value::Text(date(self.clock.date(time)))
    }

    /// How many had their say.
    fn connections(&self) -> u64 {
        let of_row = |row: &RowSnapshot| {
            row.stats.gauges.open
                + row.stats.gauges.pending
                + row.stats.counters.closed()
                + row.stats.counters.failed()
        };
        self.snapshot.rows(By::Netns).iter().map(of_row).sum()
    }

    /// As one JSON object.
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

    /// As paragraphs; ports are told with the names of their services, as far as these are known.
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
            0 => "nothing is wrong".to_owned(),
            1 => "1 finding".to_owned(),
            count => format!("{count} findings"),
        };
        let is_lower = self.snapshot.events.are_lower_bounds();
        let lost = if is_lower { "; records were lost, so there may be more" } else { "" };
        let (connections, seconds) = (self.connections(), self.snapshot.seconds());
        writeln!(out, "{found}, as far as {connections} connections show in {seconds:.1} s{lost}")
    }
}
