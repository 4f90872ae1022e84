//! Bursts: nothing is lost at full speed, and where something must be lost, it is counted and
//! what is so now is right again after the next survey.

use std::{
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
};

use crate::lab::{self, Counters, Finished, Namespace, Pair, Report, Sock, Synfin};

/// Every connection makes five records on either side.
pub(crate) const RECORDS_EACH: u64 = 10;

/// One record in so many may be missing because the kernel skipped the hook. It is skipped where an
/// interrupt finds it at work: how often that is, is up to the machine, and on an emulated processor
/// the hook takes long.
pub(crate) fn missing_share() -> u64 {
    if lab::is_slow() { 1_000 } else { 100_000 }
}

#[test]
fn a_burst_of_100_000_connections_is_counted_to_the_last() {
    const PORT: u16 = 7201;
    let connections = lab::scaled(100_000, 10_000) as u64;
    let _lab = lab::enter_alone();
    let (report, (before, after), off) = lab::nearly_whole(missing_share(), || {
        let namespace = Namespace::new();
        let synfin = Synfin::watch(["report", "-o", "json"]);
        burst(&namespace, PORT, connections);
        namespace.settle();
        let before = namespace.counters();
        let report = synfin.finish().report();
        assert_eq!(report.event("lost"), 0);
        (report, (before, namespace.counters()))
    });

    assert!(report.event("seen") + off >= connections * RECORDS_EACH);
    check_whole(&report, PORT, connections, &before, off);
    // Of two last ACKs at a time each makes a child, of which one is discarded.
    let discarded = before.get("PassiveOpens").saturating_sub(connections);
    let records = connections * RECORDS_EACH + 2 * discarded;
    assert!(report.event("seen") + off >= records, "{discarded} children were discarded");
    let (client, server) = (report.row("client", PORT), report.row("server", PORT));
    let both = |figure: &str| client.figure(figure) + server.figure(figure);
    assert_eq!(both("open"), 0);
    // Some may have gone in the meantime.
    let possible = after.get("sockstat.tw")..=before.get("sockstat.tw");
    let reported = both("time_wait.now");
    assert!(possible.contains(&reported), "in TIME_WAIT: {reported}, not {possible:?}");
}

#[test]
fn what_a_tiny_ring_loses_is_counted_and_what_is_so_now_is_right() {
    const PORT: u16 = 7211;
    const HELD: usize = 40;
    let connections = lab::scaled(20_000, 2_000) as u64;
    let _lab = lab::enter_alone();
    let namespace = Namespace::new();
    let mut held = Held::new(&namespace, PORT + 1, HELD);
    let synfin = Synfin::watch(["report", "-o", "json", "--ring-size", "4K"]);
    held.change_amid_burst(PORT, connections);
    let report = held.finish(synfin, PORT).report();

    // That seen = delivered + lost, every report is checked for.
    assert!(report.event("lost") > 0, "a ring of 4 KiB must lose something");
    assert!(report.event("seen") + report.missing() >= connections * RECORDS_EACH);
    assert!(report.says_lower_bounds());
    assert_eq!(report.row("server", PORT + 1).figure("open"), HELD as u64);
}

/// What a report says of a burst, and the kernel of its namespace, agrees but for `off` records.
#[track_caller]
pub(crate) fn check_whole(
    report: &Report,
    port: u16,
    connections: u64,
    counters: &Counters,
    off: u64,
) {
    let (client, server) = (report.row("client", port), report.row("server", port));
    let both = |figure: &str| client.figure(figure) + server.figure(figure);
    let figures = [
        ("attempts", client.figure("attempts"), counters.get("ActiveOpens")),
        ("clients", client.figure("established"), connections),
        ("servers", server.figure("established"), connections),
        ("client handshakes", client.figure("handshake.clean.count"), connections),
        ("closed clients", client.figure("closed"), connections),
        ("closed servers", server.figure("closed"), connections),
        ("adopted", both("adopted"), 0),
    ];
    let entered = lab::time_waits_entered(counters);
    let entered = entered.map(|count| ("entries into TIME_WAIT", both("time_wait.entered"), count));
    for (name, reported, counted) in figures.into_iter().chain(entered) {
        assert!(reported.abs_diff(counted) <= off, "{name}: {reported}, not {counted}");
    }
}

/// Connections that stay open while others come and go.
pub(crate) struct Held<'a> {
    namespace: &'a Namespace,
    listener: TcpListener,
    address: SocketAddr,
    pairs: Vec<Pair>,
}

impl<'a> Held<'a> {
    pub(crate) fn new(namespace: &'a Namespace, port: u16, count: usize) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = namespace.listen(address);
        let mut held = Self { namespace, listener, address, pairs: Vec::new() };
        held.add(count);
        held
    }

    fn add(&mut self, count: usize) {
        let pairs = (0..count).map(|_| self.namespace.pair_with(&self.listener, self.address));
        self.pairs.extend(pairs);
    }

    /// Makes a burst to another port, with births and ends of these in its midst: if that loses
    /// something, some of them are among it.
    pub(crate) fn change_amid_burst(&mut self, port: u16, connections: u64) {
        let namespace = self.namespace;
        thread::scope(|scope| {
            let burst = scope.spawn(|| burst(namespace, port, connections));
            while !burst.is_finished() {
                self.add(1);
                self.pairs.swap_remove(0).close_by_client();
            }
            burst.join().expect("the burst");
        });
    }

    /// Ends synfin. What is open and in TIME_WAIT then, of these and of bursts to another port, it
    /// knows as `ss` does.
    #[track_caller]
    pub(crate) fn finish(&self, synfin: Synfin, port: u16) -> Finished {
        self.namespace.settle();
        let before = self.namespace.sockets();
        let finished = synfin.finish();
        let after = self.namespace.sockets();
        let report = finished.report();
        for port in [port, self.address.port()] {
            for role in ["client", "server"] {
                let in_state = |sockets: &[Sock], state: &str| {
                    let here = sockets.iter().filter(|socket| is_end(socket, role, port));
                    here.filter(|socket| socket.state == state).count() as u64
                };
                let row = report.row(role, port);
                assert_eq!(row.figure("open"), in_state(&before, "ESTAB"), "open: {role} {port}");
                // Some may have gone in the meantime.
                let possible = in_state(&after, "TIME-WAIT")..=in_state(&before, "TIME-WAIT");
                let reported = row.figure("time_wait.now");
                assert!(
                    possible.contains(&reported),
                    "{role} {port}: {reported}, not {possible:?}"
                );
            }
        }
        finished
    }
}

/// Whether a socket is that end of a connection to the port.
fn is_end(socket: &Sock, role: &str, port: u16) -> bool {
    match role {
        "client" => socket.remote_port == port,
        _ => socket.local_port == port && socket.remote_port != 0,
    }
}

#[test]
fn surveys_without_rest_neither_adopt_nor_lose_anything() {
    const PORT: u16 = 7221;
    let connections = lab::scaled(40_000, 4_000) as u64;
    let _lab = lab::enter_alone();
    let namespace = Namespace::new();
    let recording = tempfile::NamedTempFile::new().expect("a file");
    let path = recording.path().to_str().expect("a plain path");
    let synfin = Synfin::watch(["report", "-o", "json", "--survey-always", "--record", path]);
    burst(&namespace, PORT, connections);
    namespace.settle();
    let report = synfin.finish().report();

    let scans = walks_of(path, namespace.id());
    assert!(scans >= lab::scaled(20, 3), "only {scans} walks during the burst");
    let off = report.missing();
    for role in ["client", "server"] {
        let row = report.row(role, PORT);
        let lost = row.figure("closes.lost_sight") + row.figure("failures.connect_lost_sight");
        assert!(row.figure("adopted") + lost <= off, "{role}: adopted or lost from sight");
        assert!(row.figure("closed").abs_diff(connections) <= off, "{role}");
    }
}

/// How often a namespace was scanned to the end.
fn walks_of(recording: &str, netns: u64) -> usize {
    let file = std::fs::File::open(recording).expect("the recording");
    let reader = synfin::trace::recording::Reader::new(std::io::BufReader::new(file));
    let frames = reader.expect("a recording").map(|frame| frame.expect("a frame"));
    let is_walk = |frame: &synfin::trace::recording::Frame| {
        matches!(frame, synfin::trace::recording::Frame::ScanEnd(end)
            if u64::from(end.netns) == netns && end.error.is_none())
    };
    frames.filter(is_walk).count()
}

/// Makes short connections on loopback as fast as two threads can, half of them closed by either
/// side first.
pub(crate) fn burst(namespace: &Namespace, port: u16, connections: u64) {
    burst_to(&listener(namespace, port), namespace, connections);
}

/// A listener for several bursts.
pub(crate) fn listener(namespace: &Namespace, port: u16) -> TcpListener {
    namespace.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
}

/// As [`burst`], to a listener that stays.
pub(crate) fn burst_to(listener: &TcpListener, namespace: &Namespace, connections: u64) {
    let port = listener.local_addr().expect("its address").port();
    let server = || {
        for number in 0..connections {
            let (stream, _) = listener.accept().expect("a connection");
            end(stream, number % 2 == 0);
        }
    };
    let client = || {
        for number in 0..connections {
            // Many addresses, so that no range of ports runs out.
            let address = Ipv4Addr::new(127, 0, 1, (number % 250) as u8 + 1);
            let stream = TcpStream::connect((address, port)).expect("a connection");
            end(stream, number % 2 == 1);
        }
    };
    namespace.within(|| {
        thread::scope(|scope| {
            scope.spawn(server);
            scope.spawn(client);
        });
    });
}

/// Closes, at once or after the peer.
fn end(mut stream: TcpStream, after_the_peer: bool) {
    if after_the_peer {
        let read = stream.read(&mut [0]).expect("the peer's end");
        assert_eq!(read, 0);
    }
}
