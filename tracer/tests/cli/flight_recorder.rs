//! The flight recorder over simulated hours: which files it keeps, and that each file is complete.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    io::BufReader,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use synfin::{
    record::flight::{FlightRecorder, Limits},
    trace::{
        accept_queue::AcceptQueue,
        event::Input,
        names::{CgroupName, Container, Names},
        recording::{Frame, Reader},
        scan::ScannedSocket,
    },
};
use synfin_common::{
    event::{Flags, Kind},
    state::TcpState::*,
};
use synfin_testkit::{
    RecordedKernel, Socket, recorded,
    sample::{found_by_scan, web_server},
};
use tempfile::TempDir;

const HOUR: u64 = 3600;

/// A host with events every second and one long connection, and its recorder.
struct Flight {
    recorder: FlightRecorder,
    kernel: RecordedKernel,
    /// Size of the largest frame in bytes.
    largest: u64,
}

impl Flight {
    fn new(folder: &Path, limits: Limits) -> Self {
        let recorder = FlightRecorder::new(folder, limits).map_err(|failure| failure.lines(true));
        let mut flight =
            Self { recorder: recorder.unwrap(), kernel: RecordedKernel::begin(), largest: 0 };
        let path = "kubepods/app".into();
        let container = Some(Container { id: "0123456789ab".into(), pod: Some("shop/web".into()) });
        let names = Names {
            cgroups: [(1, CgroupName { path, container })].into(),
            namespaces: [(4_026_531_840, "host".into())].into(),
            inodes: BTreeMap::new(),
        };
        flight.kernel.frames.push(Frame::Names(names));
        flight.scan(0);
        flight.record(0);
        flight
    }

    /// Plays a second of connections; every tenth second, one of them loses its last record.
    fn second(&mut self, second: u64, connections: u64) {
        let ms = second * 1000;
        for number in 0..connections {
            let remote =
                format!("198.51.100.7:{}", 1024 + (second * connections + number) % 60_000);
            let sock = Socket::between(100 + number, "192.0.2.10:443", &remote);
            let kernel = &mut self.kernel;
            kernel.at(ms + 1).opens(sock, (Listen, SynRecv), None);
            kernel.establishes(sock, SynRecv, 1_000, 0, Flags(0));
            kernel.at(ms + 20).closes_with(sock, Established, |_| {});
        }
        if second % 10 == 5 {
            self.kernel.loses(Kind::Step);
        }
        self.kernel.tick_at(ms + 1000);
        self.record(ms + 1000);
    }

    fn scan(&mut self, ms: u64) {
        let time = RecordedKernel::BEGIN + ms * 1_000_000;
        let listener = Socket::between(1, "0.0.0.0:443", "0.0.0.0:0");
        let listener = found_by_scan(listener, Listen, AcceptQueue { depth: 0, limit: 511 });
        let stays = Socket::between(2, "192.0.2.10:443", "198.51.100.8:50000");
        let stays = found_by_scan(stays, Established, AcceptQueue::default());
        let found =
            [listener, stays].map(|socket| Input::ScannedSocket(ScannedSocket { time, ..socket }));
        self.kernel.at(ms).scan_host(found);
    }

    fn record(&mut self, ms: u64) {
        let mut scans = 0;
        let mut frames = std::mem::take(&mut self.kernel.frames);
        while !frames.is_empty() {
            for frame in frames.drain(..) {
                if let Frame::Events(batch) = &frame {
                    self.largest = self.largest.max(batch.len() as u64);
                }
                scans += u64::from(self.recorder.write(&frame).expect("room"));
            }
            if std::mem::take(&mut scans) > 0 {
                self.scan(ms);
                frames = std::mem::take(&mut self.kernel.frames);
            }
        }
    }
}

fn keep(keep: Option<u64>, max_size: Option<u64>) -> Limits {
    Limits { keep: keep.map(Duration::from_secs), max_size }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "rec")).collect();
    paths.sort();
    paths
}

fn size_of(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

fn size(folder: &Path) -> u64 {
    files(folder).iter().map(|path| size_of(path)).sum()
}

#[track_caller]
fn json(args: &[&OsStr]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_synfin")).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn report(path: &Path) -> Value {
    json(&["report".as_ref(), "-o".as_ref(), "json".as_ref(), "--from".as_ref(), path.as_ref()])
}

#[track_caller]
fn comparison(before: &Path, after: &Path) -> Value {
    json(&["compare".as_ref(), "-o".as_ref(), "json".as_ref(), before.as_ref(), after.as_ref()])
}

/// Delivered, lost and missing events of a report, after checking that they balance.
#[track_caller]
fn events(report: &Value) -> [u64; 3] {
    let events = &report["events"];
    let [seen, delivered, lost, filtered, missed, gaps, in_flight] =
        ["seen", "delivered", "lost", "filtered", "missed", "gaps", "in_flight"]
            .map(|name| events[name].as_u64().unwrap());
    assert_eq!((seen, in_flight, missed), (delivered + lost + filtered, 0, 0), "{events}");
    [delivered, lost, gaps]
}

#[test]
fn old_files_are_deleted_and_each_file_is_complete() {
    let outside = TempDir::new().unwrap();
    let folder = outside.path().join("flight");
    let mut flight = Flight::new(&folder, keep(Some(HOUR), None));
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    for second in 0..3 * HOUR {
        flight.second(second, 1);
    }
    drop(flight);
    let files = files(&folder);
    // One hour in files of five minutes, and the current file.
    assert_eq!(files.len(), 13, "{files:?}");
    assert!(files[0].ends_with("synfin-20260102T050405.000Z.rec"), "{files:?}");
    for path in &files {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        let report = report(path);
        let is_last = Some(path) == files.last();
        // The current file has just begun, or has not begun yet.
        if !is_last {
            assert_eq!(events(&report), [900, 30, 0]);
            assert_eq!(report["interval"]["seconds"], 300.0);
        }
        let row = &report["ports"][0];
        assert_eq!((&row["adopted"], &row["open"]), (&1.into(), &1.into()), "{path:?} {row}");
        let frames: Vec<_> =
            Reader::new(BufReader::new(File::open(path).unwrap())).unwrap().collect();
        let frames: Vec<_> = frames.into_iter().map(Result::unwrap).collect();
        let Frame::Session(session) = &frames[0] else { panic!("no session first") };
        assert_eq!(session.namespaces[&4_026_531_840], "host");
        let is_named =
            |frame: &Frame| matches!(frame, Frame::Names(names) if names.cgroups.contains_key(&1));
        let named = frames.iter().filter(|frame| is_named(frame)).count();
        assert_eq!(named, 1, "expected once in each file");
    }
    let all = report(&folder);
    let sums = files.iter().map(|path| events(&report(path)));
    let sums = sums.fold([0; 3], |sum, of| [sum[0] + of[0], sum[1] + of[1], sum[2] + of[2]]);
    assert_eq!(events(&all), sums);
    assert_eq!((&all["ports"][0]["adopted"], &all["ports"][0]["open"]), (&1.into(), &1.into()));
}

#[test]
fn all_files_together_stay_below_the_size_limit() {
    const MOST: u64 = 1 << 20;
    let outside = TempDir::new().unwrap();
    let folder = outside.path();
    let mut flight = Flight::new(folder, keep(None, Some(MOST)));
    let mut largest = 0;
    for second in 0..1200 {
        // Sometimes far more than fits into a file.
        flight.second(second, if second % 100 == 99 { 2000 } else { 20 });
        largest = largest.max(size(folder));
    }
    assert!(largest <= MOST + flight.largest, "{largest}");
    assert!(largest > MOST / 2, "{largest}");
    drop(flight);
    let files = files(folder);
    assert!(files.len() > 2, "{files:?}");
    for path in files {
        events(&report(&path));
    }
}

#[test]
fn files_of_others_are_kept_and_leftovers_of_earlier_runs_count() {
    const MOST: u64 = 1 << 20;
    let outside = TempDir::new().unwrap();
    let folder = outside.path();
    let others = ["notes.rec", "synfin-20200102T050405.000Z.rec.gz", "synfin-20200102.rec"];
    for name in others {
        fs::write(folder.join(name), vec![0; 1 << 21]).unwrap();
    }
    fs::create_dir(folder.join("synfin-20200102T050405.000Z.rec")).unwrap();
    let leftover = |day: u64| folder.join(format!("synfin-2025010{day}T000000.000Z.rec"));
    for day in 1..4 {
        fs::write(leftover(day), vec![0; 400 << 10]).unwrap();
    }
    let mut flight = Flight::new(folder, keep(None, Some(MOST)));
    assert_eq!([1, 2, 3].map(|day| leftover(day).exists()), [false, true, true]);
    for second in 0..100 {
        flight.second(second, 50);
    }
    assert_eq!([1, 2, 3].map(|day| leftover(day).exists()), [false; 3]);
    for name in others {
        assert_eq!(fs::metadata(folder.join(name)).unwrap().len(), 1 << 21);
    }
    assert!(folder.join("synfin-20200102T050405.000Z.rec").is_dir());
}

/// The exit status of `anonymize`, and what it prints.
fn anonymize(args: &[&OsStr]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_synfin"));
    let output = command.arg("anonymize").args(args).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_directory_is_anonymized_file_by_file() {
    let outside = TempDir::new().unwrap();
    let [folder, shared] = ["flight", "shared"].map(|name| outside.path().join(name));
    let mut flight = Flight::new(&folder, keep(Some(60), None));
    for second in 0..20 {
        flight.second(second, 1);
    }
    drop(flight);
    fs::write(folder.join("notes"), "of web-1").unwrap();
    // The recorder was killed before it wrote anything to its last file.
    fs::write(folder.join("synfin-20300102T050405.000Z.rec"), "").unwrap();

    let args = [folder.as_os_str(), shared.as_os_str()];
    let (code, printed) = anonymize(&args);
    assert_eq!(code, 0, "{printed}");
    assert_eq!(fs::metadata(&shared).unwrap().permissions().mode() & 0o777, 0o700);
    let originals: Vec<_> = files(&folder).into_iter().filter(|path| size_of(path) > 0).collect();
    let copies = files(&shared);
    assert!(copies.len() > 2, "{copies:?}");
    let says = format!("frames in {} files of {}", copies.len(), folder.display());
    assert!(printed.contains(&says), "{printed}");
    let names = |paths: &[PathBuf]| -> Vec<_> {
        paths.iter().map(|path| path.file_name().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&copies), names(&originals));
    let host = |path: &Path| report(path)["host"]["name"].clone();
    for (original, copy) in originals.iter().zip(&copies) {
        let bytes = fs::read(copy).unwrap();
        let has = |name: &str| bytes.windows(name.len()).any(|part| part == name.as_bytes());
        assert!(!["web-1", "kubepods", "shop/web"].iter().any(|name| has(name)), "{copy:?}");
        assert_eq!(events(&report(copy)), events(&report(original)), "{copy:?}");
        assert_eq!(host(copy), host(&copies[0]), "they have one key");
    }
    // They are files of one run still.
    assert_eq!(events(&report(&shared)), events(&report(&folder)));

    let (code, printed) = anonymize(&args);
    assert_eq!(code, 2, "{printed}");
    assert!(printed.contains("specify a new directory, or --force"), "{printed}");
    let force = OsStr::new("--force");
    assert_eq!(anonymize(&[args[0], args[1], force]).0, 0);
    let (code, printed) = anonymize(&[args[0], args[0], force]);
    assert_eq!(code, 2, "{printed}");
    assert!(printed.contains("into itself"), "{printed}");
}

#[test]
fn a_damaged_file_does_not_keep_the_others_from_being_anonymized() {
    let outside = TempDir::new().unwrap();
    let [folder, shared] = ["flight", "shared"].map(|name| outside.path().join(name));
    fs::create_dir(&folder).unwrap();
    let args = [folder.as_os_str(), shared.as_os_str()];
    let (code, printed) = anonymize(&args);
    assert_eq!(code, 2, "{printed}");
    assert!(printed.contains("a directory without a flight recorder's files"), "{printed}");
    assert!(!shared.exists());

    let whole = recorded(&web_server());
    let named = |day: u64| format!("synfin-2025010{day}T000000.000Z.rec");
    let contents = [&whole[..], &whole[..whole.len() - 1], b"no recording", &whole[..]];
    for (day, bytes) in (1..).zip(contents) {
        fs::write(folder.join(named(day)), bytes).unwrap();
    }
    let (code, printed) = anonymize(&args);
    assert_eq!(code, 2, "{printed}");
    let part = format!("{} can be read only in part", folder.join(named(2)).display());
    assert!(printed.contains(&part), "{printed}");
    let copied = [1, 2, 3, 4].map(|day| shared.join(named(day)).exists());
    assert_eq!(copied, [true, true, false, true]);
    for day in [1, 4] {
        let [copy, original] = [&shared, &folder].map(|of| events(&report(&of.join(named(day)))));
        assert_eq!(copy, original);
    }
}

#[test]
fn only_the_last_of_several_runs_is_read() {
    let outside = TempDir::new().unwrap();
    let folder = outside.path();
    let mut flight = Flight::new(folder, keep(Some(60), None));
    for second in 0..20 {
        flight.second(second, 1);
    }
    drop(flight);
    let expected = events(&report(folder));
    let mut earlier = web_server();
    if let Frame::Session(session) = &mut earlier[0] {
        session.clock.realtime_ns -= 1;
    }
    let leftover = folder.join("synfin-20250101T000000.000Z.rec");
    fs::write(leftover, recorded(&earlier)).unwrap();
    let all = report(folder);
    assert_eq!(events(&all), expected);
    let printed = all["host"]["limitations"].to_string();
    assert!(printed.contains("files of earlier runs"), "{printed}");
}

#[test]
fn directories_files_and_reports_can_be_compared() {
    let outside = TempDir::new().unwrap();
    let play = |name: &str, connections: u64| {
        let folder = outside.path().join(name);
        let mut flight = Flight::new(&folder, keep(Some(60), None));
        for second in 0..40 {
            flight.second(second, connections);
        }
        folder
    };
    let [quiet, busy] = [play("quiet", 1), play("busy", 3)];
    let connections = |of: &Value| {
        let column = &of["rows"][0]["figures"]["connections"];
        ["before", "after"].map(|side| column[side].as_f64().unwrap())
    };
    let seen = |path: &Path| {
        let row = &report(path)["ports"][0];
        row["established"].as_f64().unwrap() + row["adopted"].as_f64().unwrap()
    };
    let both = comparison(&quiet, &busy);
    assert_eq!(connections(&both), [41.0, 121.0]);
    assert_eq!(both["seconds"]["after"], report(&busy)["interval"]["seconds"]);

    // One of its files, and the report on it.
    let slices = files(&busy);
    assert!(slices.len() > 2, "{slices:?}");
    let slice = &slices[1];
    assert_eq!(connections(&comparison(slice, &busy)), [seen(slice), 121.0]);
    let written = outside.path().join("busy.json");
    fs::write(&written, report(&busy).to_string()).unwrap();
    for (before, after) in [(&written, &busy), (&busy, &written), (&busy, &busy)] {
        let same = comparison(before, after);
        assert_eq!(connections(&same), [121.0; 2]);
        for column in same["rows"][0]["figures"].as_object().unwrap().values() {
            assert_eq!(column["before"], column["after"], "{same}");
        }
    }
}

#[test]
fn comparing_a_directory_without_recordings_is_explained() {
    let outside = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_synfin"));
    let output = command.arg("compare").args([outside.path(); 2]).output().unwrap();
    let printed = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{printed}");
    assert!(printed.contains("a directory without a flight recorder's files"), "{printed}");
}
