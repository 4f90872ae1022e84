//! The report: a snapshot as a table, as one JSON object, or as CSV.

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
            Column, Value,
            Visibility::{Data, Footer, Json},
            columns, to_cells, to_headings, to_object,
        },
        port_columns::{COLUMNS, PortRow},
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

/// Where the rows are in the JSON object.
pub const ROWS: &str = "ports";

const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";
/// Which rows a report has.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// What makes a row.
    pub by: By,
    /// Only those with connections that ended for one of these reasons; empty: all.
    pub reasons: Vec<CloseReason>,
    /// Only those with connections in one of these states; empty: all.
    pub states: Vec<TcpState>,
}

impl Rows {
    /// Whether this one is asked for.
    pub(crate) fn show(&self, row: &RowSnapshot) -> bool {
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

/// What is written of a snapshot.
pub struct Report {
    header: Header,
    /// Trouble first, then traffic.
    rows: Vec<PortRow>,
    /// Rows that were not asked for.
    unasked: usize,
    events: Events,
}

impl Report {
    /// The rows that are asked for.
    pub fn new(session: &Arc<Session>, snapshot: &Snapshot, asked: &Rows) -> Self {
        let header = Header::new(session, snapshot, asked.by);
        let mut rows = PortRow::all(session, snapshot, asked.by);
        let count = rows.len();
        rows.retain(|row| asked.show(&row.row));
        let unasked = count - rows.len();
        // Then by role and port, so that equal rows stay in place.
        rows.sort_by_key(|row| {
            (std::cmp::Reverse(row.bad()), std::cmp::Reverse(row.row.stats.gauges.open))
        });
        Self { header, rows, unasked, events: snapshot.events }
    }

    /// As a JSON object.
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
    rows: Rows,
    begun: bool,
}

impl<W: Write> ReportSink<W> {
    /// Writes to `out`.
    pub fn new(out: W, style: Style, rows: Rows) -> Self {
        Self { out, style, rows, begun: false }
    }

    /// Writes one report.
    ///
    /// # Errors
    ///
    /// Writing fails.
    pub fn write(&mut self, session: &Arc<Session>, snapshot: &Snapshot) -> io::Result<()> {
        let first = !std::mem::replace(&mut self.begun, true);
        let report = Report::new(session, snapshot, &self.rows);
        match self.style.format {
            Format::Table => self.table(&report, first)?,
            Format::Json => json_lines::object(&mut self.out, report.object())?,
            Format::Csv => self.csv(&report, first)?,
        }
        self.out.flush()
    }

    fn table(&mut self, report: &Report, first: bool) -> io::Result<()> {
        let Report { header, rows, unasked, events } = report;
        let Style { wide, no_header, terminal, .. } = self.style;
        if !first {
            writeln!(self.out)?;
        }
        if !no_header {
            let Interval { start, seconds, .. } = &header.interval;
            writeln!(self.out, "{start} +{seconds:.1}s")?;
        }
        let columns = table::columns(COLUMNS, wide, self.rows.by);
        table::whole(&mut self.out, &columns, rows, !no_header, terminal)?;
        if no_header {
            return Ok(());
        }
        if let Some(note) = note(rows.len(), *unasked, events) {
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

/// Why there are no rows, or fewer.
fn note(rows: usize, unasked: usize, events: &Events) -> Option<String> {
    match (rows, unasked) {
        (0, 0) if events.filtered > 0 => {
            Some("no TCP connection matched: the filters left out all that was seen".to_owned())
        }
        (0, 0) => Some("no TCP connection was seen".to_owned()),
        (_, 0) => None,
        _ => Some(format!("{unasked} more rows have no such reason or state")),
    }
}

/// What became of the kernel's records.
fn footer(events: &Events) -> String {
    let Events { seen, delivered, lost, filtered, missed, gaps, .. } = events;
    format!(
        "events: {seen} seen = {delivered} delivered + {lost} lost + {filtered} filtered{}; {missed} missed, {gaps} gaps{}",
        match events.in_flight() {
            0 => String::new(),
            records => format!(" + {records} in flight"),
        },
        if events.are_lower_bounds() { "; counts are lower bounds" } else { "" },
    )
}

/// What is exact, and what is not.
fn accuracy(header: &Header) -> String {
    let known = Accuracy::ALL.into_iter().filter_map(|accuracy| {
        let so_known =
            OptionalHook::ALL.iter().filter(|&&of| header.coverage.accuracy(of) == accuracy);
        let names: Vec<_> = so_known.map(|of| of.name()).collect();
        (!names.is_empty()).then(|| format!("{}: {}", accuracy.name(), names.join(", ")))
    });
    known.collect::<Vec<_>>().join("; ")
}

/// A snapshot's interval, dated.
struct Interval {
    start: String,
    end: String,
    seconds: f64,
}

impl Interval {
    fn of(session: &Session, snapshot: &Snapshot) -> Self {
        Self {
            start: date(session.clock.date(snapshot.start)),
            end: date(session.clock.date(snapshot.end)),
            seconds: snapshot.seconds(),
        }
    }
}

/// What a report says beside its rows and its books: when, where, by what.
pub struct Header {
    session: Arc<Session>,
    coverage: Coverage,
    interval: Interval,
    kernel_counts: [u64; KERNEL_COUNTERS.len()],
    by: By,
}

impl Header {
    pub(crate) fn new(session: &Arc<Session>, snapshot: &Snapshot, by: By) -> Self {
        Self {
            session: session.clone(),
            coverage: session.coverage,
            interval: Interval::of(session, snapshot),
            kernel_counts: snapshot.kernel_counts,
            by,
        }
    }

    fn accuracy(&self, of: OptionalHook) -> Value {
        Value::Word(self.coverage.accuracy(of).name())
    }
}

const COUNTERS: Enumeration =
    Enumeration { name: "counter of the kernel's", all: || KERNEL_COUNTERS.into() };

/// All figures of a report's header.
pub const HEADER: &[Column<Header>] = columns! {
    "schema" "" Version(SCHEMA), Data, SCHEMA_HELP, |_| Value::Int(SCHEMA);
    "interval.start" "" Time, Data, "When the interval began.", |h| Value::Text(h.interval.start.clone());
    "interval.end" "" Time, Data, "When the interval ended.", |h| Value::Text(h.interval.end.clone());
    "interval.seconds" "" Seconds, Json, "How long the interval was.", |h| Value::Seconds(h.interval.seconds);
    "host.name" "" Text, Json, "The name of the host that was traced.", |h| Value::Text(h.session.host.clone());
    "host.kernel" "" Text, Json, "The release of its kernel, as uname -r says it.", |h| Value::Text(h.session.kernel.clone());
    "host.synfin" "" Text, Json, "The version of the synfin that traced.", |h| Value::Text(h.session.synfin.clone());
    "host.hooks" "" Texts, Json, "What was hooked: tracepoints, and by the names in host.knowledge the programs on the kernel's own functions.", |h| Value::Texts(h.session.hooks.clone());
    "host.knowledge.time_wait" "" Word(Accuracy::WORDS), Json, "How well TIME_WAIT is known: exact where the kernel allows hooks on its own functions, otherwise inferred from states and put right by each walk.",
        |h| h.accuracy(OptionalHook::TimeWait);
    "host.knowledge.syn_queue" "" Word(Accuracy::WORDS), Json, "How well it is known what becomes of handshakes in SYN queues: exact, or unknown.",
        |h| h.accuracy(OptionalHook::SynQueue);
    "host.knowledge.accept_wait" "" Word(Accuracy::WORDS), Json, "How well it is known how long connections wait for accept(): exact, or unknown.",
        |h| h.accuracy(OptionalHook::AcceptWait);
    "host.knowledge.resets" "" Word(Accuracy::WORDS), Json, "How well it is known which resets were sent with no connection behind them: exact since Linux 6.10, unknown before.",
        |h| h.accuracy(OptionalHook::Resets);
    "host.limitations" "" Texts, Json, "What could not be known on that host, and why.", |h| Value::Texts(h.session.limitations.clone());
    "host.sysctls" "" TextByName, Json, "Settings of the system that matter to what is seen.",
        |h| Value::TextByName(h.session.sysctls.clone().into_iter().collect());
    "host.filter" "" TextByName, Json, "What was left out while the host was traced, by the names of the flags.",
        |h| Value::TextByName(h.session.filter.described());
    "host.counters" "" Counts(COUNTERS), Json, "What the kernel itself counted in the walked namespaces, from walk to walk (/proc/net/netstat): what listeners dropped, SYN cookies, handshakes ended by a reset, TIME_WAITs that found no room.",
        |h| Value::Counts(KERNEL_COUNTERS.into_iter().zip(h.kernel_counts).collect());
    "by" "" Word(By::WORDS), Json, "What makes a row, besides the role (--by).", |h| Value::Word(h.by.name());
};

/// All figures of the books over the kernel's records.
pub const EVENTS: &[Column<Events>] = columns! {
    "events.seen" "seen" Count("records"), Footer, "Records that the hooks wanted to write: delivered + lost + filtered + in flight.",
        |e| Value::Int(e.seen);
    "events.delivered" "delivered" Count("records"), Footer, "Records that reached the tracker.", |e| Value::Int(e.delivered);
    "events.lost" "lost" Count("records"), Footer, "Records for which the ring buffer had no room: make it larger (--ring-size).", |e| Value::Int(e.lost);
    "events.filtered" "filtered" Count("records"), Footer, "Records left out on purpose.", |e| Value::Int(e.filtered);
    "events.in_flight" "in flight" Count("records"), Footer, "Records on their way to the tracker when the interval ended; none at the end of a trace.",
        // Never negative.
        |e| Value::Int(e.in_flight().try_into().unwrap_or(0));
    "events.missed" "missed" Count("runs"), Footer, "Runs of a hook that the kernel skipped, so that there was no record.", |e| Value::Int(e.missed);
    "events.gaps" "gaps" Count("places"), Footer, "Places where a record must be missing, as two that follow each other do not fit.", |e| Value::Int(e.gaps);
    "events.unreadable" "" Count("records"), Json, "Records that were not understood; they are among the delivered.", |e| Value::Int(e.unreadable);
    "events.lower_bounds" "" Bool, Json, "Births or ends may be missing, so that counts of them are lower bounds.", |e| Value::Bool(e.are_lower_bounds());
};
