//! Faults at full rate: statistics stay consistent, losses are counted, memory stays bounded, and
//! afterwards the gauges are correct.

use std::{
    io::Write,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use synfin::trace::ring_size;

use crate::{
    burst::{self, OpenConnections, RECORDS_EACH, burst_to, may_miss},
    errors::fill_a_disk,
    lab::{self, Busy, Events, Namespace, Policy, Process, Synfin, eventually},
    serve,
};

/// The first port of this file's tests.
const PORT: u16 = 7801;

const REPORT: [&str; 3] = ["report", "-o", "json"];

/// The default size of the ring buffers: of the smallest, and of all.
fn rings() -> [u64; 2] {
    const SHARED: u64 = 16 << 20;
    let cpus = thread::available_parallelism().map_or(1, usize::from) as u32;
    let each = u64::from(ring_size::default_bytes(cpus));
    [each, u64::from(cpus) * each + SHARED]
}

/// The size of the largest record in the ring, in bytes.
const LARGEST_RECORD: u64 = 128;

/// Bytes for each socket of the kernel: its connection or TIME_WAIT in the tracker, and its record
/// in a scan.
const MEMORY_EACH: u64 = 512;

/// Bytes for one batch from the ring in several forms, and for the allocator's fragmentation.
const MEMORY_IN_BETWEEN: u64 = 4 << 20;

/// A process, and its memory at the start.
struct Memory {
    of: Process,
    at_first: u64,
}

impl Memory {
    fn of(synfin: &Synfin) -> Self {
        let of = synfin.process();
        of.reset_peak_memory();
        Self { of, at_first: of.memory() }
    }

    /// Checks that the memory never grew by more than the contents of a ring of this size and
    /// the share of the kernel's own sockets.
    #[track_caller]
    fn check(&self, ring: u64, namespace: &Namespace) {
        self.of.wait_until_asleep();
        let counters = namespace.counters();
        let sockets =
            ["inuse", "orphan", "tw"].map(|kind| counters.get(&format!("sockstat.{kind}")));
        let sockets: u64 = sockets.iter().sum();
        let most = self.of.peak_memory() - self.at_first;
        let bound = (MEMORY_IN_BETWEEN + ring + sockets * MEMORY_EACH) >> 10;
        eprintln!("{most} KiB more than {} KiB, for {sockets} sockets", self.at_first);
        assert!(most <= bound, "{most} KiB more memory for {sockets} sockets, not {bound}");
    }
}

#[test]
fn a_reader_stopped_for_half_a_second_loses_nothing() {
    const STOPPED: Duration = Duration::from_millis(500);
    let port = PORT;
    let first = lab::scaled(20_000, 2_000) as u64;
    let _lab = lab::enter_alone();
    let (report, (connections, counters), off) = lab::nearly_whole(may_miss().times(10), || {
        let namespace = Namespace::new();
        let listener = burst::listener(&namespace, port);
        let synfin = Synfin::watch(REPORT);
        let memory = Memory::of(&synfin);
        let begun = Instant::now();
        burst_to(&listener, &namespace, first);
        // The number that fits into that time, or into the ring of one CPU.
        let stopped = first as f64 / begun.elapsed().as_secs_f64() * STOPPED.as_secs_f64();
        let stopped = (stopped as u64).min(rings()[0] / LARGEST_RECORD / RECORDS_EACH);
        eprintln!("{stopped} connections without the reader");
        synfin.process().stop();
        burst_to(&listener, &namespace, stopped);
        synfin.process().resume();
        namespace.wait_until_quiet();
        let counters = namespace.counters();
        memory.check(rings()[1], &namespace);
        (synfin.finish().report(), (first + stopped, counters))
    });
    assert_eq!(report.event("lost"), 0);
    burst::check_whole(&report, port, connections, &counters, off);
}

#[test]
fn losses_of_a_stopped_reader_are_counted_and_gauges_stay_correct() {
    const OPEN: usize = 40;
    let port = PORT + 10;
    let connections = lab::scaled(20_000, 4_000) as u64;
    let _lab = lab::enter_alone();
    let namespace = Namespace::new();
    let mut open = OpenConnections::new(&namespace, port + 1, OPEN);
    let synfin = Synfin::watch(REPORT.into_iter().chain(["--ring-size", "256K"]));
    let memory = Memory::of(&synfin);
    synfin.process().stop();
    open.change_amid_burst(port, connections);
    synfin.process().resume();
    memory.check(256 << 10, &namespace);
    let finished = open.finish(synfin, port);
    let report = finished.report();

    // `Report::complete` checks that seen = delivered + lost.
    let (seen, lost) = (report.event("seen"), report.event("lost"));
    assert!(seen + report.missing() >= connections * RECORDS_EACH);
    assert!(lost > 0, "this number of records cannot fit");
    assert!(report.says_lower_bounds());
    let printed = format!(
        "{lost} of {seen} events were lost because a ring buffer was full (--ring-size 256K)"
    );
    assert!(finished.stderr.contains(&printed), "{}", finished.stderr);
    assert_eq!(report.row("server", port + 1).count("open"), OPEN as u64);
}

#[test]
fn a_full_table_evicts_connections_and_counts_them() {
    const MOST: u64 = 100;
    const OPEN: usize = 400;
    let port = PORT + 20;
    let connections = lab::scaled(20_000, 2_000) as u64;
    let _lab = lab::enter_alone();
    let (_folder, recording) = lab::recording_file();
    let recording = &*recording;
    let limit = ["--max-connections", &MOST.to_string()];
    // An evicted connection that has a record later counts as a gap.
    let (report, (finished, counters), off) = lab::nearly_whole(may_miss().times(100), || {
        let namespace = Namespace::new();
        let options = REPORT.into_iter().chain(limit).chain(["--record", recording, "--force"]);
        let synfin = Synfin::watch(options);
        let memory = Memory::of(&synfin);
        let open = OpenConnections::new(&namespace, port + 1, OPEN);
        burst::burst(&namespace, port, connections);
        namespace.wait_until_quiet();
        let counters = namespace.counters();
        memory.check(rings()[1], &namespace);
        let finished = synfin.finish();
        drop(open);
        (finished.report(), (finished, counters))
    });
    assert_eq!(report.event("lost"), 0);
    let sum = |roles: &[&str], columns: &[&str]| -> u64 {
        let rows =
            roles.iter().flat_map(|role| [port, port + 1].map(|port| report.row(role, port)));
        rows.map(|row| columns.iter().map(|column| row.count(column)).sum::<u64>()).sum()
    };
    let both = ["client", "server"];
    let all = connections + OPEN as u64;
    for (name, reported, counted) in [
        ("attempts", sum(&["client"], &["attempts"]), counters.get("ActiveOpens")),
        ("clients", sum(&["client"], &["established"]), all),
        ("servers", sum(&["server"], &["established"]), all),
    ] {
        assert!(reported.abs_diff(counted) <= off, "{name}: {reported}, not {counted}");
    }
    let kept = |row: &serde_json::Value| {
        ["open", "pending"].map(|column| row[column].as_u64().expect("a gauge")).iter().sum::<u64>()
    };
    let kept: u64 = report.rows().iter().map(kept).sum();
    assert!(kept <= MOST, "{kept} are kept");
    let unseen = sum(&both, &["closes.lost_sight", "failures.connect_lost_sight"]);
    assert!(unseen + MOST + off >= 2 * OPEN as u64, "only {unseen} were evicted");
    let warning = format!("evicted because the limit is {MOST}: use a larger --max-connections\n");
    assert!(finished.stderr.contains(&warning), "{}", finished.stderr);

    // The recording does not depend on the limit.
    let replay = |limit: &[&str]| {
        Synfin::run([&REPORT, &["--from", recording][..], limit].concat()).report()
    };
    assert_eq!(replay(&limit).rows(), report.rows());
    let whole = replay(&[]);
    for role in both {
        let row = whole.row(role, port + 1);
        assert!(row.count("open").abs_diff(OPEN as u64) <= off, "{role}");
    }
}

#[test]
fn a_scan_starved_of_cpu_delays_nothing() {
    let port = PORT + 30;
    let connections = lab::scaled(40_000, 2_000) as u64;
    let _lab = lab::enter_alone();
    // The tests may have been started with a low scheduling priority.
    Policy::Fair.here();
    let (report, counters, off) = lab::nearly_whole(may_miss().times(10), || {
        let namespace = Namespace::new();
        let synfin = Synfin::watch(REPORT.into_iter().chain(["--scan-always"]));
        let memory = Memory::of(&synfin);
        synfin.process().set_policy_of("synfin-scan", Policy::Idle);
        let busy = Busy::everywhere();
        burst::burst(&namespace, port, connections);
        namespace.wait_until_quiet();
        drop(busy);
        let counters = namespace.counters();
        memory.check(rings()[1], &namespace);
        (synfin.finish().report(), counters)
    });
    assert_eq!(report.event("lost"), 0);
    // Nothing was adopted.
    burst::check_whole(&report, port, connections, &counters, off);
    for role in ["client", "server"] {
        let row = report.row(role, port);
        let unseen = row.count("closes.lost_sight") + row.count("failures.connect_lost_sight");
        assert!(unseen <= off, "{role}: {unseen} were lost");
    }
}

#[test]
fn losses_of_a_starved_reader_are_counted_and_gauges_stay_correct() {
    const OPEN: usize = 40;
    let port = PORT + 40;
    let connections = lab::scaled(20_000, 2_000) as u64;
    let _lab = lab::enter_alone();
    // The tests may have been started with a low scheduling priority.
    Policy::Fair.here();
    let namespace = Namespace::new();
    let mut open = OpenConnections::new(&namespace, port + 1, OPEN);
    let synfin = Synfin::watch(REPORT.into_iter().chain(["--ring-size", "64K"]));
    let memory = Memory::of(&synfin);
    synfin.process().set_policy(Policy::Idle);
    let busy = Busy::everywhere();
    open.change_amid_burst(port, connections);
    drop(busy);
    memory.check(64 << 10, &namespace);
    let finished = open.finish(synfin, port);
    let report = finished.report();

    let (seen, lost) = (report.event("seen"), report.event("lost"));
    eprintln!("{lost} of {seen} records were lost");
    assert!(seen + report.missing() >= connections * RECORDS_EACH);
    assert_eq!(finished.stderr.contains("events were lost"), lost > 0, "{}", finished.stderr);
    assert_eq!(report.row("server", port + 1).count("open"), OPEN as u64);
    // A connection whose records are lost is adopted or not seen; all others are seen.
    for role in ["client", "server"] {
        let row = report.row(role, port);
        let known = row.count("established") + row.count("adopted");
        assert!(known <= connections + lost + report.missing(), "{role}: {known}");
        assert!(known + lost + report.missing() >= connections, "{role}: {known}");
    }
}

#[test]
fn at_full_rate_a_full_disk_loses_only_the_rest_of_the_recording() {
    let port = PORT + 50;
    let _lab = lab::enter_alone();
    let namespace = Namespace::new();
    let listener = burst::listener(&namespace, port);
    let some = lab::scaled(1_000, 100) as u64;
    let report = fill_a_disk("4m", || burst_to(&listener, &namespace, some));
    assert_eq!(report.event("lost"), 0);
    let made = namespace.counters().get("ActiveOpens");
    let seen = report.row("client", port).count("established");
    assert!(seen > 0 && seen <= made + report.missing(), "{seen} of {made}");
}

/// A scraped page of metrics.
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

/// A client that sends requests and never reads, until the server can neither write to it nor read
/// from it.
fn never_reading(namespace: &Namespace) -> TcpStream {
    const REQUESTS: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut stream = serve::connect(namespace);
    stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    while stream.write_all(REQUESTS.repeat(100).as_bytes()).is_ok() {}
    stream
}

#[test]
fn at_full_rate_clients_that_never_read_metrics_delay_nothing() {
    const NEVER_READING: usize = 10;
    const RENEWED: Duration = Duration::from_millis(1_500);
    let port = PORT + 60;
    let connections = lab::scaled(20_000, 2_000) as u64;
    let _lab = lab::enter_alone();
    let established = |page: &Page, role: &str| {
        let name = "synfin_connections_established_total";
        page.sample(&format!("{name}{{role=\"{role}\",port=\"{port}\"}}"))
    };
    let (page, (), off) = lab::nearly_whole(may_miss().times(10), || {
        let namespace = Namespace::new();
        let listener = burst::listener(&namespace, port);
        let synfin = serve::serve(&namespace, &[]);
        let memory = Memory::of(&synfin);
        let never_reading: Vec<_> = (0..NEVER_READING).map(|_| never_reading(&namespace)).collect();
        burst_to(&listener, &namespace, connections);
        // Other clients are answered at the same time.
        let mut before = None;
        let page = eventually("the metrics are constant", || {
            let page = Page(serve::get(&namespace, "/metrics"));
            let now = ["client", "server"].map(|role| established(&page, role));
            let rests = before.replace(now) == Some(now);
            thread::sleep(RENEWED);
            rests.then_some(page)
        });
        namespace.wait_until_quiet();
        memory.check(rings()[1], &namespace);
        drop(never_reading);
        synfin.finish();
        (page, ())
    });
    assert_eq!(page.event("lost"), 0);
    for role in ["client", "server"] {
        let seen = established(&page, role);
        assert!(seen.abs_diff(connections) <= off, "{role}: {seen}, not {connections}");
    }
}
