//! The report: a snapshot as a table, as one JSON object, or as CSV.

use std::io::{self, Write};

use serde_json::Map;
use synfin_common::state::TcpState;

use super::{Format, Style, csv_rows, json_lines, table};
use crate::{
    figure::{
        Figure,
        Shown::{Data, Footer, Json},
        Value, Words, date, figures, to_cells, to_object,
    },
    input::{KERNEL_COUNTERS, Session},
    sight::{Extra, Knowledge, Sight},
    tracker::{
        By, Events, RowSnapshot, Snapshot,
        close::CloseReason,
        columns::{COLUMNS, PortRow},
    },
};

/// Version of the JSON object.
const SCHEMA: u64 = 1;

/// Where the rows are in the JSON object.
pub const ROWS: &str = "ports";

const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";
/// To the upper left corner, and erase all: what follows is written at once.
const CLEAR: &str = "\x1b[H\x1b[J";

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
    fn show(&self, row: &RowSnapshot) -> bool {
        let ended = |&reason: &CloseReason| row.counters.ended(reason) > 0;
        let is_in = |&state: &TcpState| match state {
            TcpState::TimeWait => row.time_wait_now > 0,
            TcpState::Listen => row.walked.listeners > 0,
            TcpState::NewSynRecv => row.walked.half_open > 0,
            state => row.gauges.state(state) > 0,
        };
        (self.reasons.is_empty() || self.reasons.iter().any(ended))
            && (self.states.is_empty() || self.states.iter().any(is_in))
    }
}

/// Writes reports.
pub struct ReportSink<W> {
    out: W,
    style: Style,
    /// The next report overwrites the last one.
    refresh: bool,
    rows: Rows,
    begun: bool,
}

impl<W: Write> ReportSink<W> {
    /// Writes to `out`; with `refresh`, a table on a terminal stays in its place.
    pub fn new(out: W, style: Style, refresh: bool, rows: Rows) -> Self {
        Self { out, style, refresh, rows, begun: false }
    }

    /// What makes its rows.
    pub fn by(&self) -> By {
        self.rows.by
    }

    /// Writes one report.
    pub fn write(&mut self, session: &Session, snapshot: Snapshot) -> io::Result<()> {
        let first = !std::mem::replace(&mut self.begun, true);
        let header = Header {
            session: session.clone(),
            sight: Sight::of(&session.shown),
            interval: Interval::of(session, &snapshot),
            kernel_counts: snapshot.kernel_counts,
            by: self.rows.by,
        };
        let (events, seconds) = (snapshot.events, header.interval.seconds);
        let all = snapshot.rows.len();
        let shown = snapshot.rows.into_iter().filter(|row| self.rows.show(row));
        let (end, clock) = (snapshot.end, session.clock);
        let sight = header.sight;
        let row = |row| PortRow { row, end, seconds, clock, sight };
        let mut rows: Vec<_> = shown.map(row).collect();
        let unasked = all - rows.len();
        // Trouble first, then traffic; then by role and port, so that equal rows stay in place.
        rows.sort_by_key(|row| {
            (std::cmp::Reverse(row.bad()), std::cmp::Reverse(row.row.gauges.open))
        });
        match self.style.format {
            Format::Table => self.table(&header, &rows, unasked, &events, first)?,
            Format::Json => json_lines::object(&mut self.out, object(&header, &rows, &events))?,
            Format::Csv => self.csv(&header, &rows, first)?,
        }
        self.out.flush()
    }

    fn table(
        &mut self,
        header: &Header,
        rows: &[PortRow],
        unasked: usize,
        events: &Events,
        first: bool,
    ) -> io::Result<()> {
        let Style { wide, no_header, terminal, .. } = self.style;
        let screen = self.screen();
        if screen.is_some() {
            self.out.write_all(CLEAR.as_bytes())?;
        } else if !first {
            writeln!(self.out)?;
        }
        if let Some(size) = self.too_small() {
            return self.say_too_small(size);
        }
        if !no_header {
            let Interval { start, seconds, .. } = &header.interval;
            writeln!(self.out, "{start} +{seconds:.1}s")?;
        }
        let width = screen.map(|(width, _)| width);
        let footer = if no_header { Vec::new() } else { footer(events, width) };
        /// On a screen with fewer lines, rows come before what is known of how they were come by.
        const ROOMY: usize = 24;
        let is_roomy = screen.is_none_or(|(_, height)| height >= ROOMY);
        let sight = if no_header || !is_roomy { Vec::new() } else { knowledge(header, width) };
        let note = if no_header { None } else { note(rows.len(), unasked, events) };
        let note = note.map_or(Vec::new(), |note| wrapped(&note, width.unwrap_or(usize::MAX)));
        /// Date, heading, what is hidden, and the line of the cursor.
        const OTHER_LINES: usize = 4;
        let room = screen.map_or(usize::MAX, |(_, height)| {
            height.saturating_sub(OTHER_LINES + note.len() + sight.len() + footer.len())
        });
        let (shown, hidden) = rows.split_at(rows.len().min(room));
        let columns = table::columns(COLUMNS, wide, self.rows.by);
        let hidden_columns =
            table::whole(&mut self.out, &columns, shown, !no_header, terminal, width)?;
        if let Some(hint) = hint(hidden.len(), hidden_columns) {
            writeln!(self.out, "{}", clipped(&hint, width.unwrap_or(usize::MAX)))?;
        }
        note.iter().chain(&sight).try_for_each(|line| writeln!(self.out, "{line}"))?;
        let alarming = events.are_lower_bounds() || events.lost > 0;
        let (red, plain) = if alarming && terminal { (RED, PLAIN) } else { ("", "") };
        footer.iter().try_for_each(|line| writeln!(self.out, "{red}{line}{plain}"))
    }

    /// Instead of the table, until the terminal is larger again.
    fn say_too_small(&mut self, TooSmall { width, height }: TooSmall) -> io::Result<()> {
        let least = TooSmall::LEAST;
        let text = format!(
            "the terminal has {width}x{height} characters: {}x{} are needed",
            least.width, least.height
        );
        let lines = wrapped(&text, width);
        let lines: Vec<_> = lines.iter().take(height).map(|line| clipped(line, width)).collect();
        // No line break at the end, which may scroll already.
        write!(self.out, "{}", lines.join("\n"))
    }

    /// The size of the terminal, if the table stays in its place there: then it must not scroll.
    fn screen(&self) -> Option<(usize, usize)> {
        if !self.refresh || !self.style.terminal {
            return None;
        }
        let size = terminal_size::terminal_size();
        size.map(|(width, height)| (width.0.into(), height.0.into()))
    }

    /// The terminal's size, if a table cannot stay in its place there.
    pub fn too_small(&self) -> Option<TooSmall> {
        let (width, height) = self.screen().filter(|_| self.style.format == Format::Table)?;
        let TooSmall { width: least_width, height: least_height } = TooSmall::LEAST;
        (width < least_width || height < least_height).then_some(TooSmall { width, height })
    }

    fn csv(&mut self, header: &Header, rows: &[PortRow], first: bool) -> io::Result<()> {
        let before = to_cells(HEADER, header);
        for (index, row) in rows.iter().enumerate() {
            let heading = first && index == 0 && !self.style.no_header;
            csv_rows::row(&mut self.out, &before, COLUMNS, row, heading)?;
        }
        Ok(())
    }
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall {
    /// Characters in a line.
    pub width: usize,
    /// Lines.
    pub height: usize,
}

impl TooSmall {
    /// What a table needs to stay in its place.
    pub const LEAST: Self = Self { width: 40, height: 8 };
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

/// What stands below the rows: all of it, unless it is wider than there is room for.
fn footer(events: &Events, width: Option<usize>) -> Vec<String> {
    let Events { seen, delivered, lost, filtered, missed, gaps, .. } = events;
    let lower_bounds = events.are_lower_bounds();
    let full = format!(
        "events: {seen} seen = {delivered} delivered + {lost} lost + {filtered} filtered{}; {missed} missed, {gaps} gaps{}",
        match events.in_flight() {
            0 => String::new(),
            records => format!(" + {records} in flight"),
        },
        if lower_bounds { "; counts are lower bounds" } else { "" },
    );
    match width {
        Some(width) if full.len() > width => {
            let bounds = if lower_bounds { "; lower bounds" } else { "" };
            let short =
                format!("events: {seen}; {lost} lost, {missed} missed, {gaps} gaps{bounds}");
            wrapped(&short, width)
        }
        _ => vec![full],
    }
}

/// What is exact, and what is not: the lines above the footer.
fn knowledge(header: &Header, width: Option<usize>) -> Vec<String> {
    let known = Knowledge::ALL.into_iter().filter_map(|knowledge| {
        let so_known = Extra::ALL.iter().filter(|&&of| header.sight.knowledge(of) == knowledge);
        let names: Vec<_> = so_known.map(|of| of.name()).collect();
        (!names.is_empty()).then(|| format!("{}: {}", knowledge.name(), names.join(", ")))
    });
    wrapped(&known.collect::<Vec<_>>().join("; "), width.unwrap_or(usize::MAX))
}

/// What is not shown for want of room.
fn hint(rows: usize, columns: usize) -> Option<String> {
    let columns = match columns {
        0 => None,
        1 => Some("1 column does not fit: enlarge the terminal".to_owned()),
        _ => Some(format!("{columns} columns do not fit: enlarge the terminal")),
    };
    let rows = (rows > 0).then(|| format!("{rows} more rows; `synfin report` shows all"));
    let hints: Vec<_> = columns.into_iter().chain(rows).collect();
    (!hints.is_empty()).then(|| hints.join("; "))
}

/// Lines of at most `width` characters, unless a word alone is longer.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().filter(|line| line.len() + 1 + word.len() <= width);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

fn clipped(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
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
            seconds: snapshot.end.saturating_sub(snapshot.start) as f64 / 1e9,
        }
    }
}

/// What a report says beside its rows and its books: when, where, by what.
pub struct Header {
    session: Session,
    sight: Sight,
    interval: Interval,
    kernel_counts: [u64; KERNEL_COUNTERS.len()],
    by: By,
}

impl Header {
    fn knowledge(&self, of: Extra) -> Value {
        Value::Word(self.sight.knowledge(of).name())
    }
}

const COUNTERS: Words = Words { name: "counter of the kernel's", all: || KERNEL_COUNTERS.into() };

/// All figures of a report's header.
pub const HEADER: &[Figure<Header>] = figures! {
    "schema" "" Number, Json, "Version of this form; it changes when something in it is renamed or goes away.",
        |_| Value::Int(SCHEMA);
    "interval.start" "" Time, Data, "When the interval began.", |h| Value::Text(h.interval.start.clone());
    "interval.end" "" Time, Data, "When the interval ended.", |h| Value::Text(h.interval.end.clone());
    "interval.seconds" "" Seconds, Json, "How long the interval was.", |h| Value::Seconds(h.interval.seconds);
    "host.name" "" Text, Json, "The name of the host that was traced.", |h| Value::Text(h.session.host.clone());
    "host.kernel" "" Text, Json, "The release of its kernel, as uname -r says it.", |h| Value::Text(h.session.kernel.clone());
    "host.synfin" "" Text, Json, "The version of the synfin that traced.", |h| Value::Text(h.session.synfin.clone());
    "host.hooks" "" Texts, Json, "What was hooked: tracepoints, and by the names in host.knowledge the programs on the kernel's own functions.", |h| Value::Texts(h.session.hooks.clone());
    "host.knowledge.time_wait" "" Word(Knowledge::WORDS), Json, "How well TIME_WAIT is known: exact where the kernel allows hooks on its own functions, otherwise inferred from states and put right by each walk.",
        |h| h.knowledge(Extra::TimeWait);
    "host.knowledge.syn_queue" "" Word(Knowledge::WORDS), Json, "How well it is known what becomes of handshakes in SYN queues: exact, or unknown.",
        |h| h.knowledge(Extra::SynQueue);
    "host.knowledge.accept_wait" "" Word(Knowledge::WORDS), Json, "How well it is known how long connections wait for accept(): exact, or unknown.",
        |h| h.knowledge(Extra::AcceptWait);
    "host.knowledge.resets" "" Word(Knowledge::WORDS), Json, "How well it is known which resets were sent with no connection behind them: exact since Linux 6.10, unknown before.",
        |h| h.knowledge(Extra::Resets);
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
pub const EVENTS: &[Figure<Events>] = figures! {
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

fn object(header: &Header, rows: &[PortRow], events: &Events) -> Map<String, serde_json::Value> {
    let mut report = to_object(HEADER, header);
    report.insert(ROWS.into(), rows.iter().map(|row| to_object(COLUMNS, row)).collect());
    report.extend(to_object(EVENTS, events));
    report
}
