//! Prints arbitrary bytes as a recording in every format. Each format keeps its promises, and no
//! output has an unescaped character that controls a terminal.

use std::{
    io::{self, Write},
    sync::Arc,
};

use synfin::{
    output::{
        Format, Lines, Style,
        connection::{self, ConnectionRow},
        report::{ReportSink, RowSelection},
        transition::{self, TransitionLine},
    },
    trace::{
        decode::decode,
        recording::{Frame, Reader},
        session::Session,
    },
    tracker::{Change, ChangeKinds, Limits, Tracker},
};

use super::recording::with_checksums;

/// Reads `bytes` as a file with correct checksums.
pub fn run(bytes: &[u8]) {
    let file = with_checksums(bytes);
    let Ok(reader) = Reader::new(&file[..]) else { return };
    let mut outputs = STYLES.map(Outputs::new);
    let mut tracker = Tracker::new(Limits::default(), 0);
    for frame in reader.flatten() {
        if let Frame::Session(session) = &frame {
            tracker = Tracker::new(Limits::default(), session.clock.monotonic_ns)
                .with_changes(ChangeKinds::ALL)
                .with_traffic()
                .with_coverage(session.coverage)
                .with_filters(vec![session.filter.clone()]);
            outputs = STYLES.map(Outputs::new);
            outputs.iter_mut().for_each(|output| output.session = Arc::new((**session).clone()));
        }
        decode(&frame, |input| tracker.apply(&input));
        for change in tracker.drain_changes() {
            outputs.iter_mut().for_each(|output| output.change(&change));
        }
        outputs.iter_mut().for_each(Outputs::finish_rows);
        if let Frame::Tick(_) = frame {
            report(&mut tracker, &mut outputs);
        }
    }
    let (clock, now) = (outputs[0].session.clock, tracker.now());
    for (sock, connection) in tracker.open() {
        let (traffic, inode) = (tracker.traffic(sock), tracker.netns_inode(connection.netns));
        let line = ConnectionRow::open(connection, traffic, inode, now, clock);
        outputs.iter_mut().for_each(|output| output.connections.write(&line));
    }
    outputs.iter_mut().for_each(Outputs::finish_rows);
    report(&mut tracker, &mut outputs);
}

const TABLE: Style =
    Style { format: Format::Table, wide: false, no_header: false, terminal: false };

const STYLES: [Style; 5] = [
    Style { no_header: true, ..TABLE },
    Style { wide: true, ..TABLE },
    Style { wide: true, terminal: true, ..TABLE },
    Style { format: Format::Json, ..TABLE },
    Style { format: Format::Csv, ..TABLE },
];

fn report(tracker: &mut Tracker, outputs: &mut [Outputs]) {
    let snapshot = tracker.take_snapshot();
    for Outputs { reports, session, .. } in outputs {
        reports.write(session, &snapshot).expect("writing to memory succeeds");
    }
}

/// The output in one style.
struct Outputs {
    session: Arc<Session>,
    transitions: Lines<Checked, TransitionLine>,
    connections: Lines<Checked, ConnectionRow>,
    reports: ReportSink<Checked>,
}

impl Outputs {
    fn new(style: Style) -> Self {
        let out = || Checked { style, written: Vec::new(), csv_columns: None };
        Self {
            session: Arc::default(),
            transitions: Lines::new(out(), style, transition::COLUMNS),
            connections: Lines::new(out(), style, connection::COLUMNS),
            reports: ReportSink::new(out(), style, RowSelection::default()),
        }
    }

    fn change(&mut self, change: &Change) {
        let clock = self.session.clock;
        match change {
            Change::Transition { transition, netns_inode, connection } => {
                let line =
                    TransitionLine::new(transition, *netns_inode, connection.as_ref(), clock);
                self.transitions.write(&line);
            }
            Change::Established { connection, netns_inode } => {
                let now = connection.last_transition;
                let line = ConnectionRow::open(connection, None, *netns_inode, now, clock);
                self.connections.write(&line);
            }
            Change::Closed(closed) => {
                self.connections.write(&ConnectionRow::closed(closed, clock));
            }
            Change::Accepted(_) => {}
        }
    }

    fn finish_rows(&mut self) {
        self.transitions.flush().expect("writing to memory succeeds");
        self.connections.flush().expect("writing to memory succeeds");
    }
}

/// Checks at every flush what was written since the last flush.
struct Checked {
    style: Style,
    written: Vec<u8>,
    /// Number of columns in the heading.
    csv_columns: Option<usize>,
}

impl Write for Checked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = String::from_utf8(std::mem::take(&mut self.written)).expect("UTF-8");
        match self.style.format {
            Format::Table => self.check_table(&written),
            Format::Json => written.lines().for_each(check_json),
            Format::Csv => self.check_csv(&written),
        }
        Ok(())
    }
}

impl Checked {
    fn check_table(&self, table: &str) {
        let ours = ["\x1b[31m", "\x1b[1m", "\x1b[0m", "\x1b[H\x1b[J"];
        let ours = if self.style.terminal { &ours[..] } else { &[] };
        let bare = ours.iter().fold(table.to_owned(), |table, ours| table.replace(ours, ""));
        for line in bare.lines() {
            assert!(!line.contains(is_control_or_bidi), "a control character in {line:?}");
        }
    }

    fn check_csv(&mut self, rows: &str) {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(rows.as_bytes());
        for row in reader.records() {
            let row = row.expect("all rows have the same number of columns");
            let columns = *self.csv_columns.get_or_insert(row.len());
            assert_eq!(row.len(), columns, "{row:?}");
            assert!(
                !row.iter().any(|cell| cell.contains(is_control_or_bidi)),
                "a control character in {row:?}"
            );
        }
    }
}

fn check_json(line: &str) {
    let object: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
    assert!(object.is_object(), "{line}");
    assert!(!line.contains(is_control_or_bidi), "a control character in {line:?}");
}

/// Control characters, and characters that change the text direction.
fn is_control_or_bidi(character: char) -> bool {
    let turns = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    character.is_control() || turns
}
