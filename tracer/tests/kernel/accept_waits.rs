//! Waits for accept(), compared with the clock: a client notes when connect() returned, and a server
//! when accept() did.

use std::{
    collections::HashMap,
    fs::File,
    io::BufReader,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

use synfin::{
    trace::{
        decode::decode,
        event::Input,
        recording::{Frame, Reader},
    },
    tracker::{Change, ChangeKinds, Limits, Tracker},
};
use synfin_common::state::TcpState;

use crate::{
    lab::{self, MayMiss, Report, Synfin, Wire, accept, now},
    statistics::column_of,
};

/// Connections to each listener.
const CONNECTIONS: usize = 1_600;

/// Connections at irregular times, and a server that stops accepting now and then.
const STALLS: u16 = 9701;
/// Bursts, between which no connection comes for a while.
const BURSTS: u16 = 9702;
/// Two listeners, on an IPv4 and an IPv6 address.
const SHARED: u16 = 9703;

/// The load on a listener.
#[derive(Clone, Copy)]
struct Load {
    at: SocketAddr,
    /// The pause before a connection.
    gap: fn(usize) -> Duration,
    /// The pause after an accept().
    service: fn(usize) -> Duration,
}

/// Reproducible gaps of up to 3 ms.
fn irregular(number: usize) -> Duration {
    Duration::from_micros((number * 2_654_435_761 % 3_000) as u64)
}

/// A long queue, to which bursts come as fast as they are accepted; single ones until it is empty.
fn bursts(number: usize) -> Duration {
    Duration::from_millis(match number {
        0..200 => 1,
        _ if number >= CONNECTIONS - 30 => 20,
        _ if number.is_multiple_of(20) => 42,
        _ => 1,
    })
}

/// Nearly no pauses, but a long one now and then.
fn stalls(number: usize) -> Duration {
    Duration::from_micros(if number.is_multiple_of(50) { 60_000 } else { 200 })
}

fn steadily(_: usize) -> Duration {
    Duration::from_millis(3)
}

fn loads() -> [Load; 4] {
    let at = |ip, port| SocketAddr::new(ip, port);
    [
        Load { at: at(Wire::FAR4, STALLS), gap: irregular, service: stalls },
        Load { at: at(Wire::FAR4, BURSTS), gap: bursts, service: steadily },
        Load { at: at(Wire::FAR4, SHARED), gap: irregular, service: stalls },
        Load { at: at(Wire::FAR6, SHARED), gap: bursts, service: steadily },
    ]
}

/// The truth about a connection.
#[derive(Clone, Copy)]
struct Truth {
    port: u16,
    /// When connect() was called, and when it returned.
    connected: (u64, u64),
    /// The same of accept().
    accepted: (u64, u64),
}

impl Truth {
    /// Bounds of the wait in microseconds. They are wide where system calls are slow.
    fn wait_us(&self) -> [u64; 2] {
        let Self { connected, accepted, .. } = self;
        [(accepted.0, connected.1), (accepted.1, connected.0)]
            .map(|(accepted, connected)| accepted.saturating_sub(connected) / 1_000)
    }
}

/// By the port of the server and the address of the client.
type Truths = HashMap<(u16, SocketAddr), Truth>;

/// Plays a load. Returns the truth by the address of the client, and the sockets.
fn play(wire: &Wire, listener: &TcpListener, load: Load) -> (Truths, Vec<TcpStream>) {
    let Load { at, gap, service } = load;
    thread::scope(|scope| {
        let server = scope.spawn(move || {
            let accepts = (0..CONNECTIONS).map(|number| {
                let called = now();
                let stream = accept(listener);
                let returned = now();
                thread::sleep(service(number));
                (stream, (called, returned))
            });
            accepts.collect::<Vec<_>>()
        });
        let mut connected = HashMap::new();
        let mut sockets = Vec::new();
        for number in 0..CONNECTIONS {
            thread::sleep(gap(number));
            let called = now();
            let client = wire.near.connect(at).expect("a connection");
            let returned = now();
            connected.insert(client.local_addr().expect("its address"), (called, returned));
            sockets.push(client);
        }
        let mut truths = Truths::new();
        for (stream, accepted) in server.join().expect("the server") {
            let peer = stream.peer_addr().expect("the client's address");
            truths.insert(
                (at.port(), peer),
                Truth { port: at.port(), connected: connected[&peer], accepted },
            );
            sockets.push(stream);
        }
        (truths, sockets)
    })
}

/// Plays all loads at once, recorded by synfin with these arguments. Returns also what has to stay until the
/// report.
fn played(args: &[&str], recording: &Path) -> (Report, (Truths, impl Sized)) {
    let wire = Wire::new();
    let ids = lab::ids([&wire.far]);
    let recording = recording.to_str().expect("a UTF-8 path");
    let always = ["report", "-o", "json", "-N", &ids, "--record", recording, "--force"];
    let loads = loads().map(|load| (wire.far.listen(load.at), load));
    let synfin = Synfin::watch(always.iter().chain(args));
    let played: Vec<_> = thread::scope(|scope| {
        let play = |(listener, load): &(TcpListener, Load)| play(&wire, listener, *load);
        let playing = loads.each_ref().map(|load| scope.spawn(move || play(load)));
        playing.into_iter().map(|load| load.join().expect("a load")).collect()
    });
    let report = synfin.finish().report();
    let (truths, sockets): (Vec<_>, Vec<_>) = played.into_iter().unzip();
    (report, (truths.into_iter().flatten().collect(), (sockets, loads, wire)))
}

/// Checks that the quantiles of each port are within 5 % of the truth's, of all waits but `off`.
fn check_quantiles(report: &Report, truths: &Truths, accuracy: &str, off: u64) {
    for port in [STALLS, BURSTS, SHARED] {
        let waits: Vec<_> =
            truths.values().filter(|truth| truth.port == port).map(Truth::wait_us).collect();
        let sorted = |bound: usize| {
            let mut waits: Vec<_> = waits.iter().map(|wait| wait[bound]).collect();
            waits.sort_unstable();
            waits
        };
        let bounds = [0, 1].map(sorted);
        let rows = report.rows();
        let row = rows.iter().find(|row| row["role"] == "server" && row["port"] == port);
        let row = row.expect("the port's row");
        let column = |name: &str| column_of(row, &format!("accept_queue.wait_{name}"));
        assert_eq!(column("accuracy"), accuracy);
        let count = column("count").as_u64().expect("a count");
        assert!((count + off) as usize + 4 >= waits.len(), "{count} of {}", waits.len());
        for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
            let index = (waits.len() as f64 * share).ceil() as usize - 1;
            let [least, most] = bounds.each_ref().map(|waits| waits[index]);
            let value = |suffix: &str| {
                let value = column(&format!("{name}{suffix}_us"));
                value.as_u64().unwrap_or_else(|| panic!("{port} {name}{suffix}: {value}"))
            };
            let [found, at_least, at_most] = ["", "_at_least", "_at_most"].map(value);
            let compared = format!(
                "{port} {name}: {found} us, {at_least}..={at_most}; truth {least}..={most} us"
            );
            eprintln!("{compared}");
            let is_close = (least as f64 * 0.95..=most as f64 * 1.05).contains(&(found as f64));
            assert!(is_close, "{compared}");
        }
    }
}

#[test]
fn inferred_waits_agree_with_the_clock() {
    let _lab = lab::enter_alone();
    let folder = tempfile::tempdir().expect("a directory");
    let recording = folder.path().join("recording");
    let played = || played(&["--tracepoints-only"], &recording);
    let (report, (truths, _sockets)) = lab::conclusive(played);
    // Waits that are as short as a system call cannot be inferred so closely.
    if !lab::is_slow() {
        check_quantiles(&report, &truths, "inferred", 0);
    }
    check_bounds(&recording, &truths);
}

#[test]
fn waits_measured_by_system_calls_agree_with_the_clock() {
    let _lab = lab::enter_alone();
    let folder = tempfile::tempdir().expect("a directory");
    let recording = folder.path().join("recording");
    let played = || played(&["--tracepoints-only", "--accept-wait"], &recording);
    let (report, (truths, _sockets), off) = lab::nearly_whole(may_miss(), played);
    check_quantiles(&report, &truths, "exact", off);
    assert_eq!(report.host()["knowledge"]["accept_wait"], "exact");
}

/// The records that may be missing. The kernel skips a program on the event of a system call while a task is
/// reading a map on that CPU (`bpf_disable_instrumentation`), which others can preempt since 7.0.
fn may_miss() -> MayMiss {
    if lab::since(7, 0) { MayMiss::one_in(1_000) } else { MayMiss::NONE }
}

/// Checks that each accept() was between its bounds.
fn check_bounds(recording: &Path, truths: &Truths) {
    let file = File::open(recording).expect("the recording");
    let mut frames = Reader::new(BufReader::new(file)).expect("a recording");
    let Some(Ok(Frame::Session(session))) = frames.next() else { panic!("no session") };
    let kinds = ChangeKinds { accepted: true, ..ChangeKinds::default() };
    let mut tracker =
        Tracker::new(Limits::default(), session.clock.monotonic_ns).with_changes(kinds);
    let mut clients = HashMap::new();
    let mut checked = 0;
    // A CPU that is emulated can be suspended between reading the length of a queue and adding to it, for
    // longer than the 2 ms that are allowed for that.
    let suspended = if lab::is_slow() { 20_000_000 } else { 0 };
    for frame in frames {
        decode(&frame.expect("a frame"), |input| {
            if let Input::Transition(transition) = &input
                && transition.old == TcpState::SynRecv
            {
                clients.insert(transition.sock, (transition.local.port(), transition.remote));
            }
            tracker.apply(&input);
        });
        for change in tracker.drain_changes() {
            let Change::Accepted(inferred) = change else { continue };
            let client = clients[&inferred.sock];
            let (called, returned) = truths[&client].accepted;
            assert!(
                inferred.after <= returned + suspended && called <= inferred.by + suspended,
                "{client:?}: {inferred:?}, but accepted in {called}..={returned}"
            );
            checked += 1;
        }
    }
    let all = loads().len() * CONNECTIONS;
    eprintln!("{checked} of {all} within their bounds");
    assert!(checked + 2 * loads().len() >= all, "only {checked} of {all} are known");
}
