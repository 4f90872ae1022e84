//! Output files for analytics engines: DuckDB, from Python's package index, reads synfin's files with
//! the queries of docs/files.md and docs/guide.md, and gives the same totals as the report.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use synfin::{
    analysis::compare::{COMPARED, Side, compare},
    message::escape::escape_control,
    tcp::close_reason::{Class, CloseReason},
    trace::recording::Frame,
};
use synfin_common::{event::Flags, state::TcpState::*};
use synfin_testkit::{RecordedKernel, Socket, closing, recorded, sample::web_server};
use tempfile::TempDir;

/// Files by their names in docs/files.md, and the commands that write them.
const FILES: [(&str, &[&str]); 6] = [
    ("closed.json", &["connections", "-o", "json"]),
    ("closed.csv", &["connections", "-o", "csv"]),
    ("trace.json", &["trace", "-o", "json"]),
    ("trace.csv", &["trace", "-o", "csv"]),
    ("report.json", &["report", "1", "-o", "json"]),
    ("report.csv", &["report", "1", "-o", "csv"]),
];

/// The formats, as in the names of queries.
const FORMS: [&str; 2] = ["json", "csv"];

#[test]
fn queries_return_the_totals_of_the_report() {
    let files = Files::of_real_traffic();
    let report = ReportTotals::of(&files.report);
    assert!(report.reasons().len() > 20, "too few reasons to compare: {report:?}");
    for form in FORMS {
        let [totals] = files.query_table("report", form, [&query(&format!("totals-{form}"))]);
        assert_eq!(sorted(totals), sorted(report.totals()), "{form}");
    }
}

#[test]
fn queries_return_the_close_reasons_of_the_report() {
    let files = Files::of_real_traffic();
    let expected = ReportTotals::of(&files.report).reasons();
    let [of_intervals] = files.query_table("report", "csv", [&query("reasons-csv")]);
    assert_eq!(sorted(of_intervals), sorted(expected.clone()));
    for form in FORMS {
        let of_connections = "SELECT role, service_port AS port, reason, count(*) AS connections \
                              FROM closed GROUP BY ALL";
        let [of_connections, abnormal] =
            files.query_table("closed", form, [of_connections, &query("abnormal")]);
        assert_eq!(sorted(of_connections), sorted(expected.clone()), "{form}");
        assert_eq!(sorted(abnormal), sorted(abnormal_of(&expected)), "{form}");
    }
    let shown_first = &files.duckdb(&[&in_the_guide()])[0];
    let mut by_reason_and_port = BTreeMap::new();
    for row in abnormal_of(&expected) {
        let key = (row["reason"].to_string(), row["service_port"].as_u64());
        *by_reason_and_port.entry(key).or_insert(0) += row["connections"].as_u64().unwrap();
    }
    let found = shown_first.iter().map(|row| {
        let key = (row["reason"].to_string(), row["service_port"].as_u64());
        (key, row["connections"].as_u64().unwrap())
    });
    assert_eq!(found.collect::<BTreeMap<_, _>>(), by_reason_and_port);
}

#[test]
fn queries_return_the_handshakes_and_time_waits_of_the_report() {
    let files = Files::of_real_traffic();
    let report = ReportTotals::of(&files.report);
    files.write("open.json", &["connections", "--open", "-o", "json"]);
    let still_open = "SELECT count(*) AS handshakes FROM read_json('open.json', sample_size = -1) \
                      WHERE handshake = 'clean'";
    let sum =
        |rows: &[Value], of: &str| rows.iter().filter_map(|row| row[of].as_u64()).sum::<u64>();
    for form in FORMS {
        let [handshakes, time_waits, open] = files.query_table(
            "closed",
            form,
            [&query("handshakes"), &query("time-waits"), still_open],
        );
        assert_eq!(
            sum(&handshakes, "handshakes") + sum(&open, "handshakes"),
            report.sum("/handshake/clean/count"),
            "{form}"
        );
        assert_eq!(sum(&time_waits, "time_waits"), report.sum("/time_wait/entered"), "{form}");
    }

    // `compare` merges intervals as well.
    let intervals = Side::of_lines(&files.read("report.json")).unwrap();
    let p99 = COMPARED.iter().position(|column| column.key == "handshake.clean.p99_us").unwrap();
    let rows = compare(&intervals, &intervals).rows;
    let expected = rows.iter().filter_map(|row| {
        let p99 = row.columns[p99].values()[0]?;
        Some(((row.name.role.clone(), row.name.what.clone()), p99))
    });
    let [found] = files.query_table("report", "json", [&query("p99-json")]);
    let p99_of = |row: &Value| {
        let name = (row["role"].as_str().unwrap().to_owned(), format!(":{}", row["port"]));
        (name, row["p99_us"].as_f64().unwrap())
    };
    assert_eq!(
        found.iter().map(p99_of).collect::<BTreeMap<_, _>>(),
        expected.collect::<BTreeMap<_, _>>()
    );
    assert_eq!(sum(&found, "handshakes"), report.sum("/handshake/clean/count"));
}

#[test]
fn json_and_csv_give_the_same_answers() {
    let files = Files::of_real_traffic();
    let asked = ["abnormal", "handshakes", "peers", "time-waits"].map(query);
    let [all, of_ipv6] = [
        "SELECT * EXCLUDE (state, container, pod) FROM closed",
        "SELECT local_addr, remote_addr FROM closed WHERE remote_addr LIKE '%:%'",
    ];
    let asked = [&asked[0], &asked[1], &asked[2], &asked[3], all, of_ipv6];
    let [from_json, from_csv] = FORMS.map(|form| files.query_table("closed", form, asked));
    for (query, (json, csv)) in asked.iter().zip(from_json.iter().zip(&from_csv)) {
        assert!(!json.is_empty(), "{query}");
        assert_eq!(json, csv, "{query}");
    }
}

#[test]
fn transitions_match_the_connections() {
    let files = Files::of_real_traffic();
    let ends = "SELECT count(*) AS ends FROM trace WHERE new = 'close' AND role IS NOT NULL";
    let [json, csv] = FORMS.map(|form| files.query_table("trace", form, [ends, &query("states")]));
    assert_eq!(json, csv);
    assert_eq!(json[0], [json!({ "ends": files.read("closed.json").lines().count() })]);
    let states = json[1].iter().filter_map(|row| row["state"].as_str());
    assert_eq!(states.collect::<BTreeSet<_>>().len(), 8, "{:?}", json[1]);
}

#[test]
fn several_files_can_be_queried_as_one_table() {
    let files = Files::of(&web_server());
    let lines = files.read("closed.json").lines().count();
    files.write("closed-again.json", &["connections", "-o", "json"]);
    let by_file = "SELECT count(*) AS lines FROM closed GROUP BY filename";
    let found = files.duckdb(&[&query("several"), by_file]);
    assert_eq!(found[1], [json!({ "lines": lines }), json!({ "lines": lines })]);
}

#[test]
fn columns_have_their_documented_types() {
    let files = Files::of_real_traffic();
    for (table, command) in [("closed", "connections"), ("trace", "trace"), ("report", "report")] {
        let listed = ListedColumn::all_of(command);
        let in_csv = || listed.iter().filter(|column| column.is_in_csv);
        let heading = files.read(&format!("{table}.csv")).lines().next().unwrap().to_owned();
        assert!(heading.split(',').eq(in_csv().map(|column| &column.name)), "{table}: {heading}");
        let from_csv: Vec<_> =
            in_csv().map(|column| (column, format!("\"{}\"", column.name))).collect();
        // The types of rows are those inside of the report.
        let outside = ["schema", "interval.", "host.", "by", "events."];
        let is_in_rows = |name: &str| {
            table != "report" || !outside.iter().any(|outside| name.starts_with(outside))
        };
        let in_rows = listed.iter().filter(|column| is_in_rows(&column.name));
        let path = |name: &str| format!("\"{}\"", name.replace('.', "\".\""));
        let from_json = in_rows.map(|column| (column, path(&column.name))).collect();
        for (form, columns) in [("csv", from_csv), ("json", from_json)] {
            let mut known = 0;
            for (column, found) in files.types(table, form, &columns) {
                known += usize::from(found.1 > 0);
                let expected = match (found.1, form) {
                    (0, "csv") => "VARCHAR",
                    (0, _) => "\"NULL\"",
                    _ => column.of_duckdb(),
                };
                // Some values are rarely known.
                let is_right = [expected, column.of_duckdb()].contains(&found.0.as_str());
                assert!(is_right, "{} of {table} in {form}: {}", column.name, found.0);
                assert!(found.1 > 0 || column.is_nullable, "{}: always null", column.name);
            }
            assert!(known * 2 > columns.len(), "{known} of {table} have values");
        }
    }
}

/// A column as docs/schema/columns.csv lists it.
struct ListedColumn {
    name: String,
    kind: String,
    is_nullable: bool,
    is_in_csv: bool,
}

impl ListedColumn {
    fn all_of(command: &str) -> Vec<Self> {
        let list = page("docs/schema/columns.csv");
        let rows = list.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let columns = rows.filter(|cells| cells[0] == command).map(|cells| Self {
            name: cells[2].into(),
            kind: cells[3].into(),
            is_nullable: cells[4] == "true",
            is_in_csv: cells[6] == "CSV and JSON",
        });
        // Columns of the whole report come first in a row.
        let (first, then): (Vec<_>, Vec<_>) = columns
            .partition(|column| column.name == "schema" || column.name.starts_with("interval."));
        first.into_iter().chain(then).collect()
    }

    fn of_duckdb(&self) -> &'static str {
        match self.kind.as_str() {
            "integer" => "BIGINT",
            "number" => "DOUBLE",
            "boolean" => "BOOLEAN",
            "timestamp" => "TIMESTAMP WITH TIME ZONE",
            "text" => "VARCHAR",
            "list of pairs of integers" => "BIGINT[][]",
            other => panic!("{other}"),
        }
    }
}

#[test]
fn every_line_begins_with_the_format_version() {
    let files = Files::of(&web_server());
    let commands: [(&[&str], u32); 4] = [
        (&["report", "1"], 1),
        (&["connections"], 2),
        (&["connections", "--open"], 2),
        (&["trace"], 2),
    ];
    for (command, version) in commands {
        let [json, csv] = FORMS.map(|form| files.print(&[command, &["-o", form]].concat()));
        for line in json.lines() {
            let begin = format!("{{\"schema\":{version},");
            assert!(line.starts_with(&begin), "{command:?}: {line}");
        }
        let mut rows = csv.lines();
        assert!(rows.next().unwrap().starts_with("schema,"), "{command:?}");
        let begin = format!("{version},");
        let all = rows.clone().count() > 0 && rows.all(|row| row.starts_with(&begin));
        assert!(all, "{command:?}");
    }
}

#[test]
fn a_csv_file_without_rows_has_its_heading() {
    let mut quiet = RecordedKernel::begin();
    (1..4).for_each(|second| quiet.tick_at(second * 1_000));
    let (quiet, busy) = (Files::of(&quiet.into_frames()), Files::of(&web_server()));
    for args in [&["connections"][..], &["connections", "--open"], &["trace"], &["report", "1"]] {
        let args = [args, &["-o", "csv"]].concat();
        let heading = busy.print(&args).lines().next().unwrap().to_owned();
        assert_eq!(quiet.print(&args), heading + "\n", "{args:?}");
        assert_eq!(quiet.print(&[&args[..], &["-H"]].concat()), "", "{args:?}");
    }
    let asked = ["abnormal", "handshakes", "peers", "time-waits"].map(query);
    let found = quiet.query_table("closed", "csv", asked.each_ref().map(String::as_str));
    assert_eq!(found, [const { Vec::<Value>::new() }; 4]);
    assert_eq!(quiet.read("closed.json"), "");
}

#[test]
fn the_csv_heading_is_written_before_late_rows() {
    let mut late = RecordedKernel::begin();
    late.tick_at(1_000);
    late.at(1_100);
    connect(&mut late, 1, b"late");
    late.tick_at(2_000);
    let report = Files::of(&late.into_frames()).read("report.csv");
    let lines: Vec<_> = report.lines().collect();
    assert_eq!(lines.len(), 2, "{report}");
    assert!(lines[0].starts_with("schema,interval.start,") && lines[1].starts_with("1,2026-"));
}

#[test]
fn missing_hooks_do_not_shift_columns() {
    let (shown, mut frames) = (Files::of(&web_server()), web_server());
    let Frame::Session(session) = &mut frames[0] else { panic!("no session first") };
    session.coverage = synfin::tcp::coverage::Coverage::default();
    let hidden = Files::of(&frames);
    let [shown, hidden] = [&shown, &hidden].map(|files| {
        let [rows] = files.query_table("report", "csv", ["SELECT * FROM report"]);
        assert!(!rows.is_empty());
        rows.into_iter().map(|row| row.as_object().unwrap().clone()).collect::<Vec<_>>()
    });
    for (shown, hidden) in shown.iter().zip(&hidden) {
        assert!(shown.keys().eq(hidden.keys()));
        for (column, value) in hidden {
            let is_unknown = column.starts_with("resets.");
            assert!(
                if is_unknown { value.is_null() } else { *value == shown[column] },
                "{column}: {value}"
            );
        }
    }
}

#[test]
fn control_characters_in_process_names_survive_json_and_csv() {
    const NAMES: [&[u8]; 14] = [
        b"plain",
        b"a,b;c\td",
        b"say \"hi\"",
        b"\"",
        b"two\r\nlines",
        b"\x1b[2J\x00",
        b"'); DROP TABLE",
        b"\\N",
        b"NULL",
        b"0042",
        b" spaces ",
        "été 🦀".as_bytes(),
        "\u{202e}drow".as_bytes(),
        b"\xff\xfe",
    ];
    let mut kernel = RecordedKernel::begin();
    for (number, name) in NAMES.iter().enumerate() {
        connect(kernel.at(number as u64), number as u64, name);
    }
    kernel.tick_at(1_000);
    let files = Files::of(&kernel.into_frames());
    // A name in /proc ends at the first zero.
    let names = NAMES.map(|name| {
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        String::from_utf8_lossy(&name[..end]).into_owned()
    });
    for form in FORMS {
        let expected = match form {
            "csv" => names.each_ref().map(|name| escape_control(name)),
            _ => names.clone(),
        };
        let asked = "SELECT owner FROM closed ORDER BY local_port";
        let [found] = files.query_table("closed", form, [asked]);
        let found: Vec<_> = found.iter().map(|row| row["owner"].as_str().unwrap()).collect();
        assert_eq!(found, expected, "{form}");
    }
}

#[test]
fn a_process_name_of_digits_stays_text() {
    let mut kernel = RecordedKernel::begin();
    connect(&mut kernel, 1, b"0042");
    kernel.tick_at(1_000);
    let files = Files::of(&kernel.into_frames());
    for form in FORMS {
        for (table, column) in [("closed", "owner"), ("trace", "owner"), ("report", "owner")] {
            let asked = format!("SELECT DISTINCT {column} AS name FROM {table}");
            let [found] = files.query_table(table, form, [&asked]);
            assert_eq!(found, [json!({ "name": "0042" })], "{table}.{form}");
        }
    }
}

#[test]
fn counts_up_to_u64_max_are_exact() {
    // Floating point cannot represent either number.
    const BYTES: [u64; 2] = [u64::MAX, (1 << 53) + 1];
    let mut kernel = RecordedKernel::begin();
    for (number, bytes) in BYTES.into_iter().enumerate() {
        let sock = begin(kernel.at(number as u64), number as u64, b"much");
        kernel.closes_with(sock, Established, |end| end.closing = Some(closing(0, bytes)));
    }
    kernel.tick_at(1_000);
    let files = Files::of(&kernel.into_frames());
    let sum = BYTES.iter().map(|&bytes| u128::from(bytes)).sum::<u128>().to_string();
    for form in FORMS {
        let asked = "SELECT sum(bytes_received)::VARCHAR AS bytes FROM closed";
        let [found] = files.query_table("closed", form, [asked]);
        assert_eq!(found, [json!({ "bytes": sum })], "{form}");
    }
}

#[test]
fn a_value_after_many_nulls_is_found() {
    // More rows than DuckDB samples by default.
    const REFUSED: u64 = 21_000;
    let mut kernel = RecordedKernel::begin();
    for number in 0..REFUSED {
        let sock = sock(number);
        kernel.at(number / 10).opens(sock, (Close, SynSent), Some((1, b"many")));
        kernel.receives_reset(sock);
        kernel.closes_with(sock, SynSent, |end| end.err = 111);
    }
    connect(kernel.at(REFUSED / 10 + 1), REFUSED, b"one");
    kernel.tick_at(REFUSED / 10 + 100);
    let files = Files::of(&kernel.into_frames());
    let asked = "SELECT count(*) AS lines, count(handshake_us) AS handshakes, \
                 sum(handshake_us) AS us FROM closed";
    for form in FORMS {
        let [found] = files.query_table("closed", form, [asked]);
        let expected = json!({ "lines": REFUSED + 1, "handshakes": 1, "us": HANDSHAKE_US });
        assert_eq!(found, [expected], "{form}");
    }
}

const HANDSHAKE_US: u32 = 30_000;

fn sock(number: u64) -> Socket {
    Socket::between(number, &format!("192.0.2.10:{}", 1_024 + number), "203.0.113.80:443")
}

fn begin(kernel: &mut RecordedKernel, number: u64, name: &[u8]) -> Socket {
    let sock = sock(number);
    kernel.opens(sock, (Close, SynSent), Some((700, name)));
    kernel.establishes(sock, SynSent, HANDSHAKE_US, 0, Flags(0));
    sock
}

/// A connection that closes at once.
fn connect(kernel: &mut RecordedKernel, number: u64, name: &[u8]) {
    let sock = begin(kernel, number, name);
    kernel.closes_with(sock, Established, |_| {});
}

/// Recordings, and the files that docs/files.md describes.
struct Files {
    folder: TempDir,
    recordings: Vec<PathBuf>,
    /// The report on each whole recording.
    report: Vec<Value>,
}

impl Files {
    /// Recordings of all ways in which a connection can open, fail and close.
    fn of_real_traffic() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/accuracy/recordings");
        let recordings = fs::read_dir(&folder).expect("recordings of real traffic");
        let mut recordings: Vec<_> = recordings.map(|file| file.unwrap().path()).collect();
        recordings.sort();
        Self::of_recordings(TempDir::new().unwrap(), recordings)
    }

    fn of(frames: &[Frame]) -> Self {
        let folder = TempDir::new().unwrap();
        let recording = folder.path().join("recording");
        fs::write(&recording, recorded(frames)).unwrap();
        Self::of_recordings(folder, vec![recording])
    }

    fn of_recordings(folder: TempDir, recordings: Vec<PathBuf>) -> Self {
        let mut files = Self { folder, recordings, report: Vec::new() };
        for (name, args) in FILES {
            files.write(name, args);
        }
        let reports = files.print(&["report", "-o", "json"]);
        files.report = reports.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        files
    }

    /// The output for all recordings, with one heading.
    fn print(&self, args: &[&str]) -> String {
        let mut printed = String::new();
        for (index, recording) in self.recordings.iter().enumerate() {
            let mut command = Command::new(env!("CARGO_BIN_EXE_synfin"));
            command.args(args).arg("--from").arg(recording).stdin(Stdio::null());
            if index > 0 && args.contains(&"csv") {
                command.arg("-H");
            }
            let output = command.output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {stderr}", recording.display());
            printed += str::from_utf8(&output.stdout).unwrap();
        }
        printed
    }

    fn write(&self, name: &str, args: &[&str]) {
        fs::write(self.folder.path().join(name), self.print(args)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    /// DuckDB's results, after creating this table from the file in this format.
    fn query_table<const N: usize>(
        &self,
        table: &str,
        form: &str,
        queries: [&str; N],
    ) -> [Vec<Value>; N] {
        let made = query(&format!("{table}-{form}"));
        let mut found = self.duckdb(&[&[&*made], &queries[..]].concat());
        found.split_off(1).try_into().unwrap()
    }

    /// DuckDB's type of each column and its number of values, given as name and expression.
    fn types<'a>(
        &self,
        table: &str,
        form: &str,
        columns: &[(&'a ListedColumn, String)],
    ) -> Vec<(&'a ListedColumn, (String, u64))> {
        let list = |each: fn(&str) -> String| {
            columns.iter().map(|(_, column)| each(column)).collect::<Vec<_>>().join(", ")
        };
        let types = list(|column| format!("typeof(any_value({column}))"));
        let counts = list(|column| format!("count({column})"));
        let asked = format!("SELECT [{types}] AS types, [{counts}] AS counts FROM {table}");
        let [found] = self.query_table(table, form, [&asked]);
        let of = |index: usize| {
            let kind = found[0]["types"][index].as_str().unwrap().to_owned();
            (kind, found[0]["counts"][index].as_u64().unwrap())
        };
        columns.iter().enumerate().map(|(index, (column, _))| (*column, of(index))).collect()
    }

    /// The rows that DuckDB returns for each statement.
    fn duckdb(&self, statements: &[&str]) -> Vec<Vec<Value>> {
        const SCRIPT: &str = "
import json, sys
try:
    import duckdb
except ImportError:
    sys.exit('Python has no module duckdb')
engine = duckdb.connect()
for statement in json.load(sys.stdin):
    try:
        found = engine.sql(statement)
        # Other types of times need modules that may not be installed.
        rows = found.query('found_rows', 'SELECT to_json(found_rows) FROM found_rows') if found else None
        print('[' + ','.join(row for row, in rows.fetchall()) + ']' if rows else '[]')
    except duckdb.Error as error:
        sys.exit(statement + '\\n' + str(error))
";
        const REMEDY: &str = "`cargo xtask test` installs DuckDB in target/tools/python";
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let python = root.join("target/tools/python/bin/python3");
        let child = Command::new(&python)
            .args(["-c", SCRIPT])
            .current_dir(&self.folder)
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child =
            child.unwrap_or_else(|error| panic!("{}: {error}; {REMEDY}", python.display()));
        let input = json!(statements).to_string();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}\n({REMEDY})");
        let answers = str::from_utf8(&output.stdout).unwrap().lines();
        answers.map(|answer| serde_json::from_str(answer).unwrap()).collect()
    }
}

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)).unwrap()
}

/// The query with this name in docs/files.md.
#[track_caller]
fn query(name: &str) -> String {
    let page = page("docs/files.md");
    let begin = format!("\n```sql {name}\n");
    let (_, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("no {begin:?}"));
    rest.split_once("\n```").unwrap().0.to_owned()
}

/// The query in docs/guide.md.
fn in_the_guide() -> String {
    let page = page("docs/guide.md");
    let (_, rest) = page.split_once("# duckdb -c \"").expect("a line for DuckDB");
    rest.split_once("\"\n").unwrap().0.to_owned()
}

/// The sums of whole recordings' reports by role and port.
#[derive(Debug)]
struct ReportTotals(BTreeMap<(String, Option<u64>), Vec<Value>>);

impl ReportTotals {
    fn of(reports: &[Value]) -> Self {
        let mut totals = BTreeMap::<_, Vec<_>>::new();
        for row in reports.iter().flat_map(|report| report["ports"].as_array().unwrap()) {
            let key = (row["role"].as_str().unwrap().to_owned(), row["port"].as_u64());
            totals.entry(key).or_default().push(row.clone());
        }
        Self(totals)
    }

    fn sum(&self, column: &str) -> u64 {
        self.0.values().filter_map(|rows| sum(rows, column)).sum()
    }

    /// The totals in the form of the queries.
    fn totals(&self) -> Vec<Value> {
        let totals = self.0.iter().map(|((role, port), rows)| {
            json!({
                "role": role,
                "port": port,
                "attempts": sum(rows, "/attempts"),
                "failed": sum(rows, "/failed"),
                "established": sum(rows, "/established"),
                "closed": sum(rows, "/closed"),
                "abnormal": sum(rows, "/abnormal"),
                "reset_by_peer": sum(rows, "/closes/reset_by_peer"),
                "time_waits": sum(rows, "/time_wait/entered"),
            })
        });
        totals.collect()
    }

    /// Number of failed and closed connections per reason.
    fn reasons(&self) -> Vec<Value> {
        let mut reasons = Vec::new();
        for ((role, port), rows) in &self.0 {
            for reason in CloseReason::ALL {
                let counts = ["failures", "closes"].map(|kind| format!("/{kind}/{}", reason.id()));
                let count: u64 = counts.iter().filter_map(|column| sum(rows, column)).sum();
                if count > 0 {
                    reasons.push(json!({
                        "role": role,
                        "port": port,
                        "reason": reason.id(),
                        "connections": count,
                    }));
                }
            }
        }
        reasons
    }
}

/// `None` if the value is null in every row.
fn sum(rows: &[Value], column: &str) -> Option<u64> {
    rows.iter().filter_map(|row| row.pointer(column)?.as_u64()).reduce(|sum, count| sum + count)
}

/// The abnormal ones of these reasons, in the form of the query for them.
fn abnormal_of(reasons: &[Value]) -> Vec<Value> {
    let is_abnormal = |row: &&Value| {
        let reason = CloseReason::from_id(row["reason"].as_str().unwrap());
        reason.is_some_and(|reason| reason.class() == Class::Abnormal)
    };
    let rows = reasons.iter().filter(is_abnormal).map(|row| {
        json!({
            "reason": row["reason"],
            "role": row["role"],
            "service_port": row["port"],
            "connections": row["connections"],
        })
    });
    rows.collect()
}

fn sorted(rows: Vec<Value>) -> Vec<String> {
    let mut rows: Vec<_> = rows.iter().map(Value::to_string).collect();
    rows.sort();
    rows
}
