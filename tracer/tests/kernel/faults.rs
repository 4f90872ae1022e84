//! What stands in synfin's way at full rate: figures stay consistent, what is lost is counted,
//! nothing grows, and afterwards all is right again.

use std::{
    io::Write,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::{
    burst::{self, Held, RECORDS_EACH, burst_to, missing_share},
    errors::fill_a_disk,
    lab::{self, Busy, Events, Namespace, Process, Synfin, Turn, eventually},
    serve,
};

/// The base of this file's ports.
const PORT: u16 = 7801;

const REPORT: [&str; 3] = ["report", "-o", "json"];

/// The ring buffer, unless another is asked for.
const RING: u64 = 16 << 20;

/// No record takes more room in it.
const LARGEST_RECORD: u64 = 128;

/// In bytes, for each socket that the kernel has: a connection in the books or a TIME_WAIT, and what
/// a scan says of it.
const MEMORY_EACH: u64 = 512;

/// In bytes: what was taken from the ring at a time, in several forms, and what the allocator makes of
/// that.
const MEMORY_IN_BETWEEN: u64 = 4 << 20;

/// The memory that a process has at first.
struct Memory {
    of: Process,
    at_first: u64,
}

impl Memory {
    fn of(synfin: &Synfin) -> Self {
        let of = synfin.process();
        of.forget_most_memory();
        Self { of, at_first: of.memory() }
    }

    /// It never had more beyond that than a ring of so many bytes holds, and the sockets that the
    /// kernel itself keeps account for.
    #[track_caller]
    fn check(&self, ring: u64, namespace: &Namespace) {
        self.of.wait_for_rest();
        let counters = namespace.counters();
        let sockets =
            ["inuse", "orphan", "tw"].map(|kind| counters.get(&format!("sockstat.{kind}")));
        let sockets: u64 = sockets.iter().sum();
        let most = self.of.most_memory() - self.at_first;
        let bound = (MEMORY_IN_BETWEEN + ring + sockets * MEMORY_EACH) >> 10;
        eprintln!("{most} KiB more than {} KiB, for {sockets} sockets", self.at_first);
        assert!(most <= bound, "{most} KiB more memory for {sockets} sockets, not {bound}");
    }
}

#[test]
fn half_a_second_without_the_reader_loses_nothing() {
    const STOPPED: Duration = Duration::from_millis(500);
    let port = PORT;
    let first = lab::scaled(20_000, 2_000) as u64;
    let _lab = lab::enter_alone();
    let (report, (connections, counters), off) = lab::nearly_whole(missing_share() / 10, || {
        let namespace = Namespace::new();
        let listener = burst::listener(&namespace, port);
        let synfin = Synfin::watch(REPORT);
        let memory = Memory::of(&synfin);
        let begun = Instant::now();
        burst_to(&listener, &namespace, first);
        // As many as are made in that time, unless the machine is too fast for this ring.
        let stopped = first as f64 / begun.elapsed().as_secs_f64() * STOPPED.as_secs_f64();
        let stopped = (stopped as u64).min(RING / LARGEST_RECORD / RECORDS_EACH);
        eprintln!("{stopped} connections without the reader");
        synfin.process().stop();
        burst_to(&listener, &namespace, stopped);
        synfin.process().go_on();
        namespace.settle();
        let counters = namespace.counters();
        memory.check(RING, &namespace);
        (synfin.finish().report(), (first + stopped, counters))
    });
    assert_eq!(report.event("lost"), 0);
    burst::check_whole(&report, port, connections, &counters, off);
}

#[test]
fn what_a_stopped_reader_loses_is_counted_and_what_is_so_now_is_right() {
    const HELD: usize = 40;
    let port = PORT + 10;
    let connections = lab::scaled(20_000, 4_000) as u64;
    let _lab = lab::enter_alone();
    let namespace = Namespace::new();
    let mut held = Held::new(&namespace, port + 1, HELD);
    let synfin = Synfin::watch(REPORT.into_iter().chain(["--ring-size", "256K"]));
    let memory = Memory::of(&synfin);
    synfin.process().stop();
    held.change_amid_burst(port, connections);
    synfin.process().go_on();
    memory.check(256 << 10, &namespace);
    let finished = held.finish(synfin, port);
    let report = finished.report();

    // That seen = delivered + lost, every report is checked for.
    let (seen, lost) = (report.event("seen"), report.event("lost"));
    assert!(seen + report.missing() >= connections * RECORDS_EACH);
    assert!(lost > 0, "so many records cannot fit");
    assert!(report.says_lower_bounds());
    let said = format!("{lost} of {seen} records were lost, as the ring buffer of 256K was full");
    assert!(finished.stderr.contains(&said), "{}", finished.stderr);
    assert_eq!(report.row("server", port + 1).figure("open"), HELD as u64);
}

#[test]
fn a_full_table_makes_room_and_counts_what_it_loses_sight_of() {
    const MOST: u64 = 100;
    const HELD: usize = 400;
    let port = PORT + 20;
    let connections = lab::scaled(20_000, 2_000) as u64;
    let _lab = lab::enter_alone();
    let folder = tempfile::tempdir().expect("a folder");
    let recording = folder.path().join("recording");
    let recording = recording.to_str().expect("a plain path");
    let limit = ["--max-connections", &MOST.to_string()];
    // One that was lost from sight and is met again after others have ended is a gap.
    let (report, (finished, counters), off) = lab::nearly_whole(missing_share() / 100, || {
        let namespace = Namespace::new();
        let options = REPORT.into_iter().chain(limit).chain(["--record", recording]);
        let synfin = Synfin::watch(options);
        let memory = Memory::of(&synfin);
        let held = Held::new(&namespace, port + 1, HELD);
        burst::burst(&namespace, port, connections);
        namespace.settle();
        let counters = namespace.counters();
        memory.check(RING, &namespace);
        let finished = synfin.finish();
        drop(held);
        (finished.report(), (finished, counters))
    });
    assert_eq!(report.event("lost"), 0);
    let sum = |roles: &[&str], figures: &[&str]| -> u64 {
        let rows =
            roles.iter().flat_map(|role| [port, port + 1].map(|port| report.row(role, port)));
        rows.map(|row| figures.iter().map(|figure| row.figure(figure)).sum::<u64>()).sum()
    };
    let both = ["client", "server"];
    let all = connections + HELD as u64;
    for (name, reported, counted) in [
        ("attempts", sum(&["client"], &["attempts"]), counters.get("ActiveOpens")),
        ("clients", sum(&["client"], &["established"]), all),
        ("servers", sum(&["server"], &["established"]), all),
    ] {
        assert!(reported.abs_diff(counted) <= off, "{name}: {reported}, not {counted}");
    }
    let kept = |row: &serde_json::Value| {
        ["open", "pending"].map(|figure| row[figure].as_u64().expect("a gauge")).iter().sum::<u64>()
    };
    let kept: u64 = report.rows().iter().map(kept).sum();
    assert!(kept <= MOST, "{kept} are kept");
    let unseen = sum(&both, &["closes.lost_sight", "failures.connect_lost_sight"]);
    assert!(unseen + MOST + off >= 2 * HELD as u64, "only {unseen} were lost from sight");
    let said = format!("as no more than {MOST} are kept: --max-connections keeps more\n");
    assert!(finished.stderr.contains(&said), "{}", finished.stderr);

    // What was recorded does not depend on what could be kept.
    let replay = |limit: &[&str]| {
        Synfin::run([&REPORT, &["--from", recording][..], limit].concat()).report()
    };
    assert_eq!(replay(&limit).rows(), report.rows());
    let whole = replay(&[]);
    for role in both {
        let row = whole.row(role, port + 1);
        assert!(row.figure("open").abs_diff(HELD as u64) <= off, "{role}");
    }
}

#[test]
fn a_survey_that_hardly_gets_a_processor_holds_nothing_up() {
    let port = PORT + 30;
    let connections = lab::scaled(40_000, 2_000) as u64;
    let _lab = lab::enter_alone();
    // Whoever runs the tests beside other work may have put them in the last place.
    Turn::Fair.here();
    let (report, counters, off) = lab::nearly_whole(missing_share() / 10, || {
        let namespace = Namespace::new();
        let synfin = Synfin::watch(REPORT.into_iter().chain(["--survey-always"]));
        let memory = Memory::of(&synfin);
        synfin.process().take_for("synfin-survey", Turn::Idle);
        let busy = Busy::everywhere();
        burst::burst(&namespace, port, connections);
        namespace.settle();
        drop(busy);
        let counters = namespace.counters();
        memory.check(RING, &namespace);
        (synfin.finish().report(), counters)
    });
    assert_eq!(report.event("lost"), 0);
    // Nothing was adopted.
    burst::check_whole(&report, port, connections, &counters, off);
    for role in ["client", "server"] {
        let row = report.row(role, port);
        let unseen = row.figure("closes.lost_sight") + row.figure("failures.connect_lost_sight");
        assert!(unseen <= off, "{role}: {unseen} were lost from sight");
    }
}

#[test]
fn what_is_lost_without_a_processor_is_counted_and_what_is_so_now_is_right() {
    const HELD: usize = 40;
    let port = PORT + 40;
    let connections = lab::scaled(20_000, 2_000) as u64;
    let _lab = lab::enter_alone();
    // Whoever runs the tests beside other work may have put them in the last place.
    Turn::Fair.here();
    let namespace = Namespace::new();
    let mut held = Held::new(&namespace, port + 1, HELD);
    let synfin = Synfin::watch(REPORT.into_iter().chain(["--ring-size", "64K"]));
    let memory = Memory::of(&synfin);
    synfin.process().take(Turn::Idle);
    let busy = Busy::everywhere();
    held.change_amid_burst(port, connections);
    drop(busy);
    memory.check(64 << 10, &namespace);
    let finished = held.finish(synfin, port);
    let report = finished.report();

    let (seen, lost) = (report.event("seen"), report.event("lost"));
    eprintln!("{lost} of {seen} records were lost");
    assert!(seen + report.missing() >= connections * RECORDS_EACH);
    assert_eq!(finished.stderr.contains("records were lost"), lost > 0, "{}", finished.stderr);
    assert_eq!(report.row("server", port + 1).figure("open"), HELD as u64);
    // What is not lost is seen; and a connection of which records are lost is adopted, or not seen.
    for role in ["client", "server"] {
        let row = report.row(role, port);
        let known = row.figure("established") + row.figure("adopted");
        assert!(known <= connections + lost + report.missing(), "{role}: {known}");
        assert!(known + lost + report.missing() >= connections, "{role}: {known}");
    }
}

#[test]
fn at_full_rate_a_full_disk_costs_the_rest_of_the_recording_only() {
    let port = PORT + 50;
    let _lab = lab::enter_alone();
    let namespace = Namespace::new();
    let listener = burst::listener(&namespace, port);
    let some = lab::scaled(1_000, 100) as u64;
    let report = fill_a_disk("4m", || burst_to(&listener, &namespace, some));
    assert_eq!(report.event("lost"), 0);
    let made = namespace.counters().get("ActiveOpens");
    let seen = report.row("client", port).figure("established");
    assert!(seen > 0 && seen <= made + report.missing(), "{seen} of {made}");
}

/// Metrics, as they were fetched.
struct Page(String);

impl Page {
    fn sample(&self, labelled: &str) -> u64 {
        serve::sample(&self.0, labelled) as u64
    }
}

impl Events for Page {
    fn event(&self, name: &str) -> u64 {
        let count = |outcome| self.sample(&format!("synfin_events_total{{outcome=\"{outcome}\"}}"));
        match name {
            "seen" => ["delivered", "lost", "filtered"].map(count).iter().sum(),
            outcome => count(outcome),
        }
    }
}

/// Asks again and again, and never reads, until no answer can be written to it any more and so no
/// request is taken from it.
fn deaf(namespace: &Namespace) -> TcpStream {
    const REQUESTS: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut stream = serve::connect(namespace);
    stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    while stream.write_all(REQUESTS.repeat(100).as_bytes()).is_ok() {}
    stream
}

#[test]
fn at_full_rate_who_asks_for_metrics_and_never_reads_holds_nothing_up() {
    const DEAF: usize = 10;
    const RENEWED: Duration = Duration::from_millis(1_500);
    let port = PORT + 60;
    let connections = lab::scaled(20_000, 2_000) as u64;
    let _lab = lab::enter_alone();
    let established = |page: &Page, role: &str| {
        let name = "synfin_connections_established_total";
        page.sample(&format!("{name}{{role=\"{role}\",port=\"{port}\"}}"))
    };
    let (page, _, off) = lab::nearly_whole(missing_share() / 10, || {
        let namespace = Namespace::new();
        let listener = burst::listener(&namespace, port);
        let synfin = serve::serve(&namespace, &[]);
        let memory = Memory::of(&synfin);
        let deaf: Vec<_> = (0..DEAF).map(|_| deaf(&namespace)).collect();
        burst_to(&listener, &namespace, connections);
        // Others are answered meanwhile.
        let mut before = None;
        let page = eventually("the metrics come to rest", || {
            let page = Page(serve::get(&namespace, "/metrics"));
            let now = ["client", "server"].map(|role| established(&page, role));
            let rests = before.replace(now) == Some(now);
            thread::sleep(RENEWED);
            rests.then_some(page)
        });
        namespace.settle();
        memory.check(RING, &namespace);
        drop(deaf);
        synfin.finish();
        (page, ())
    });
    assert_eq!(page.event("lost"), 0);
    for role in ["client", "server"] {
        let seen = established(&page, role);
        assert!(seen.abs_diff(connections) <= off, "{role}: {seen}, not {connections}");
    }
}
