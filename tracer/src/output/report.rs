//! The output of `report`: a snapshot as a table, a JSON object or CSV.

use std::{
    io::{self, Write},
    sync::Arc,
};

use serde_json::Map;
use synfin_common::state::TcpState;

use super::{Format, SCHEMA_HELP, Style, csv_rows, json_lines, table};
use crate::{
    output::{
        column::{
            Column, Reports, Value,
            Visibility::{Data, Footer, Json},
            columns, to_cells, to_headings, to_object,
        },
        port_columns::COLUMNS,
        port_row::PortRow,
    },
    tcp::{
        close_reason::CloseReason,
        coverage::{Accuracy, Coverage, OptionalHook},
        group_by::By,
        labels::Enumeration,
    },
    trace::{counters::KERNEL_COUNTERS, session::Session, time::date},
    tracker::{Events, RowSnapshot, Snapshot},
};

/// Version of the JSON object and of the CSV row.
const SCHEMA: u64 = 1;

/// Key of the rows in the JSON object.
pub const ROWS: &str = "ports";

const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// The rows of a report.
#[derive(Clone, Debug, Default)]
pub struct RowSelection {
    /// The grouping.
    pub by: By,
    /// Only rows with connections that closed for one of these reasons; empty for all rows.
    pub reasons: Vec<CloseReason>,
    /// Only rows with connections in one of these states; empty for all rows.
    pub states: Vec<TcpState>,
}

impl RowSelection {
    /// Whether the row is selected.
    pub(crate) fn includes(&self, row: &RowSnapshot) -> bool {
        let ended = |&reason: &CloseReason| row.stats.counters.ended(reason) > 0;
        let is_in = |&state: &TcpState| match state {
            TcpState::TimeWait => row.stats.time_wait_now > 0,
            TcpState::Listen => row.stats.scanned.listeners > 0,
            TcpState::NewSynRecv => row.stats.scanned.half_open > 0,
            state => row.stats.gauges.state(state) > 0,
        };
        (self.reasons.is_empty() || self.reasons.iter().any(ended))
            && (self.states.is_empty() || self.states.iter().any(is_in))
    }
}

/// The report of a snapshot.
pub struct Report {
    header: Header,
    /// Rows with the most urgent findings first, then those with the most abnormal connections, then those
    /// with the most open ones.
    rows: Vec<PortRow>,
    /// Number of rows that were not selected.
    omitted: usize,
    events: Events,
}

impl Report {
    /// The report of the selected rows.
    pub fn new(session: &Arc<Session>, snapshot: &Snapshot, selection: &RowSelection) -> Self {
        let header = Header::new(session, snapshot, selection.by);
        let mut rows = PortRow::all(session, snapshot, selection.by);
        let count = rows.len();
        rows.retain(|row| selection.includes(&row.row));
        let omitted = count - rows.len();
        // The sort is stable: equal rows stay in the order of role and port.
        rows.sort_by_key(|row| {
            let severity = row.finding.map(|(severity, _)| severity);
            std::cmp::Reverse((severity, row.bad(), row.row.stats.gauges.open))
        });
        Self { header, rows, omitted, events: snapshot.events }
    }

    /// The JSON object.
    pub fn object(&self) -> Map<String, serde_json::Value> {
        let mut report = to_object(HEADER, &self.header);
        let rows = self.rows.iter().map(|row| to_object(COLUMNS, row));
        report.insert(ROWS.into(), rows.collect());
        report.extend(to_object(EVENTS, &self.events));
        report
    }
}

/// Writes reports.
pub struct ReportSink<W> {
    out: W,
    style: Style,
    selection: RowSelection,
    reports: Reports,
    begun: bool,
}

impl<W: Write> ReportSink<W> {
    /// Writes to `out`.
    pub fn new(out: W, style: Style, selection: RowSelection) -> Self {
        Self { out, style, selection, reports: Reports::Single, begun: false }
    }

    /// Writes this number of reports.
    pub(crate) fn with_reports(self, reports: Reports) -> Self {
        Self { reports, ..self }
    }

    /// Writes one report.
    ///
    /// # Errors
    ///
    /// Writing fails.
    pub fn write(&mut self, session: &Arc<Session>, snapshot: &Snapshot) -> io::Result<()> {
        let first = !std::mem::replace(&mut self.begun, true);
        let report = Report::new(session, snapshot, &self.selection);
        match self.style.format {
            Format::Table => self.table(&report, first)?,
            Format::Json => json_lines::object(&mut self.out, report.object())?,
            Format::Csv => self.csv(&report, first)?,
        }
        self.out.flush()
    }

    fn table(&mut self, report: &Report, first: bool) -> io::Result<()> {
        let Report { header, rows, omitted, events } = report;
        let Style { wide, no_header, terminal, .. } = self.style;
        if !first {
            writeln!(self.out)?;
        }
        if !no_header {
            let DatedInterval { start, seconds, .. } = &header.interval;
            writeln!(self.out, "{start} +{seconds:.1}s")?;
        }
        let columns = table::columns(COLUMNS, wide, self.selection.by, self.reports);
        table::whole(&mut self.out, &columns, rows, !no_header, terminal)?;
        if no_header {
            return Ok(());
        }
        if let Some(note) = note(rows.len(), *omitted, events) {
            writeln!(self.out, "{note}")?;
        }
        writeln!(self.out, "{}", accuracy(header))?;
        let alarming = events.are_lower_bounds() || events.lost > 0;
        let (red, plain) = if alarming && terminal { (RED, PLAIN) } else { ("", "") };
        writeln!(self.out, "{red}{}{plain}", footer(events))
    }

    fn csv(&mut self, report: &Report, first: bool) -> io::Result<()> {
        if first && !self.style.no_header {
            let headings = [to_headings(HEADER), to_headings(COLUMNS)].concat();
            csv_rows::line(&mut self.out, &headings)?;
        }
        let before = to_cells(HEADER, &report.header);
        let mut rows = report.rows.iter();
        rows.try_for_each(|row| {
            csv_rows::line(&mut self.out, &[before.clone(), to_cells(COLUMNS, row)].concat())
        })
    }
}

/// A note if rows are missing, with the cause.
fn note(rows: usize, omitted: usize, events: &Events) -> Option<String> {
    match (rows, omitted) {
        (0, 0) if events.filtered > 0 => Some("no TCP connection matched the filters".to_owned()),
        (0, 0) => Some("no TCP connection was observed".to_owned()),
        (_, 0) => None,
        _ => Some(format!("{omitted} more rows have no connection with such a reason or state")),
    }
}

/// The counts of records.
fn footer(events: &Events) -> String {
    let Events { seen, delivered, lost, filtered, missed, gaps, .. } = events;
    let before = match events.in_flight_before {
        0 => String::new(),
        records => format!("{records} in flight before + "),
    };
    format!(
        "events: {before}{seen} seen = {delivered} delivered + {lost} lost + {filtered} filtered{}; {missed} missed, {gaps} gaps{}",
        match events.in_flight() {
            0 => String::new(),
            records => format!(" + {records} in flight"),
        },
        if events.are_lower_bounds() { "; counts are lower bounds" } else { "" },
    )
}

/// The accuracy of all values that depend on optional hooks.
fn accuracy(header: &Header) -> String {
    let known = Accuracy::ALL.into_iter().filter_map(|accuracy| {
        let hooks =
            OptionalHook::ALL.iter().filter(|&&of| header.coverage.accuracy(of) == accuracy);
        let names: Vec<_> = hooks.map(|of| of.name()).collect();
        (!names.is_empty()).then(|| format!("{}: {}", accuracy.name(), names.join(", ")))
    });
    known.collect::<Vec<_>>().join("; ")
}

/// The interval of a snapshot as dates.
struct DatedInterval {
    start: String,
    end: String,
    seconds: f64,
}

impl DatedInterval {
    fn of(session: &Session, snapshot: &Snapshot) -> Self {
        Self {
            start: date(session.clock.date(snapshot.start)),
            end: date(session.clock.date(snapshot.end)),
            seconds: snapshot.seconds(),
        }
    }
}

/// The header of a report: interval, host and grouping.
pub struct Header {
    session: Arc<Session>,
    coverage: Coverage,
    interval: DatedInterval,
    kernel_counts: [u64; KERNEL_COUNTERS.len()],
    by: By,
}

impl Header {
    pub(crate) fn new(session: &Arc<Session>, snapshot: &Snapshot, by: By) -> Self {
        Self {
            session: session.clone(),
            coverage: session.coverage,
            interval: DatedInterval::of(session, snapshot),
            kernel_counts: snapshot.kernel_counts,
            by,
        }
    }

    fn accuracy(&self, of: OptionalHook) -> Value {
        Value::Word(self.coverage.accuracy(of).name())
    }
}

const COUNTERS: Enumeration =
    Enumeration { name: "kernel counter", all: || KERNEL_COUNTERS.into() };

/// All columns of a report's header.
pub const HEADER: &[Column<Header>] = columns! {
    "schema" "" Version(SCHEMA), Data, SCHEMA_HELP, |_| Value::Int(SCHEMA);
    "interval.start" "" Time, Data, "Start of the interval.", |h| Value::Text(h.interval.start.clone());
    "interval.end" "" Time, Data, "End of the interval.", |h| Value::Text(h.interval.end.clone());
    "interval.seconds" "" Seconds, Json, "Length of the interval.", |h| Value::Seconds(h.interval.seconds);
    "host.name" "" Text, Json, "Name of the traced host.", |h| Value::Text(h.session.host.clone());
    "host.kernel" "" Text, Json, "Release of its kernel (uname -r).", |h| Value::Text(h.session.kernel.clone());
    "host.synfin" "" Text, Json, "Version of the synfin that traced.", |h| Value::Text(h.session.synfin.clone());
    "host.hooks" "" Texts, Json, "The attached hooks: tracepoints, and programs on kernel functions by their names in host.knowledge.", |h| Value::Texts(h.session.hooks.clone());
    "host.knowledge.time_wait" "" Word(Accuracy::NAMES), Json, "Accuracy of TIME_WAIT: exact where the kernel allows hooks on its functions, otherwise inferred from states and corrected by each scan.",
        |h| h.accuracy(OptionalHook::TimeWait);
    "host.knowledge.syn_queue" "" Word(Accuracy::NAMES), Json, "Accuracy of the outcomes of handshakes in SYN queues: exact or unknown.",
        |h| h.accuracy(OptionalHook::SynQueue);
    "host.knowledge.accept_wait" "" Word(Accuracy::NAMES), Json, "Accuracy of the time that connections wait for accept(): exact where the kernel allows a hook on accept(), otherwise inferred from the lengths of accept queues; see accept_queue.wait_accuracy of each row.",
        |h| h.accuracy(OptionalHook::AcceptWait);
    "host.knowledge.resets" "" Word(Accuracy::NAMES), Json, "Accuracy of resets sent without a connection: exact since Linux 6.10, unknown before.",
        |h| h.accuracy(OptionalHook::Resets);
    "host.limitations" "" Texts, Json, "What could not be determined on that host, and why.", |h| Value::Texts(h.session.limitations.clone());
    "host.sysctls" "" TextByName, Json, "Values of sysctls that affect TCP connections.",
        |h| Value::TextByName(h.session.sysctls.clone().into_iter().collect());
    "host.filter" "" TextByName, Json, "The filters of the trace, by the names of the options.",
        |h| Value::TextByName(h.session.filter_flags());
    "host.counters" "" Counts(COUNTERS), Json, "The kernel's own counts in the scanned namespaces, from scan to scan (/proc/net/netstat): drops of listeners, SYN cookies, handshakes ended by a reset, overflows of the TIME_WAIT table.",
        |h| Value::Counts(KERNEL_COUNTERS.into_iter().zip(h.kernel_counts).collect());
    "by" "" Word(By::NAMES), Json, "The grouping of rows besides the role (--by).", |h| Value::Word(h.by.name());
};

/// All columns of the counts of records.
pub const EVENTS: &[Column<Events>] = columns! {
    "events.in_flight_before" "in flight before" Count("records"), Footer, "Records on their way to the tracker when the interval began. With `seen`, they are the sum of delivered, lost, filtered and in flight.",
        |e| Value::Int(e.in_flight_before);
    "events.seen" "seen" Count("records"), Footer, "Records that the hooks produced.",
        |e| Value::Int(e.seen);
    "events.delivered" "delivered" Count("records"), Footer, "Records that reached the tracker.", |e| Value::Int(e.delivered);
    "events.lost" "lost" Count("records"), Footer, "Records that the ring buffer did not take, usually for want of room: make it larger (--ring-size).", |e| Value::Int(e.lost);
    "events.refused" "" Count("records"), Json, "The part of `lost` for which the ring buffer had room: the kernel could not lock it in time. A larger one does not help.", |e| Value::Int(e.refused);
    "events.filtered" "filtered" Count("records"), Footer, "Records that filters excluded.", |e| Value::Int(e.filtered);
    "events.in_flight" "in flight" Count("records"), Footer, "Records on their way to the tracker when the interval ended: in the ring buffer, or held until filters and roles can be decided. None at the end of a trace.",
        // Never negative.
        |e| Value::Int(e.in_flight().try_into().unwrap_or(0));
    "events.missed" "missed" Count("runs"), Footer, "Runs of a hook that the kernel skipped and that no other program took, so that their records are missing.", |e| Value::Int(e.missed);
    "events.recovered" "" Count("transitions"), Json, "Transitions for which the kernel skipped the first program, and that a later program took: nothing is missing.", |e| Value::Int(e.recovered);
    "events.gaps" "gaps" Count("places"), Footer, "Places where a record must be missing because consecutive records do not fit.", |e| Value::Int(e.gaps);
    "events.unreadable" "" Count("records"), Json, "Delivered records that could not be decoded.", |e| Value::Int(e.unreadable);
    "events.lower_bounds" "" Bool, Json, "Whether beginnings or ends of connections may be missing, so that counts are lower bounds.", |e| Value::Bool(e.are_lower_bounds());
};
