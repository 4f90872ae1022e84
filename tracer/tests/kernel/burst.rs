//! Bursts: nothing is lost at full speed. Forced losses are counted, and gauges are correct again
//! after the next scan.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufReader, Read},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread,
};

use synfin::trace::recording::{Frame, Reader};

use crate::lab::{self, Counters, Finished, MayMiss, Namespace, Pair, Report, Sock, Synfin};

/// Records of a connection; each side has five.
pub(crate) const RECORDS_EACH: u64 = 10;

/// The records of a burst that may be missing. The kernel skips the hook if an interrupt finds it
/// running, which depends on the machine: on an emulated CPU the hook is slow.
pub(crate) fn may_miss() -> MayMiss {
    MayMiss::one_in(if lab::is_slow() { 1_000 } else { 100_000 })
}

#[test]
fn a_burst_of_100_000_connections_is_counted_completely() {
    const PORT: u16 = 7201;
    let connections = lab::scaled(100_000, 10_000) as u64;
    let _lab = lab::enter_alone();
    let (report, (before, after), off) = lab::nearly_whole(may_miss(), || {
        let namespace = Namespace::new();
        let synfin = Synfin::watch(["report", "-o", "json"]);
        burst(&namespace, PORT, connections);
        namespace.wait_until_quiet();
        let before = namespace.counters();
        let report = synfin.finish().report();
        assert_eq!(report.event("lost"), 0);
        (report, (before, namespace.counters()))
    });

    assert!(report.event("seen") + off >= connections * RECORDS_EACH);
    check_whole(&report, PORT, connections, &before, off);
    // Two simultaneous last ACKs create a child each, one of which is discarded.
    let discarded = before.get("PassiveOpens").saturating_sub(connections);
    let records = connections * RECORDS_EACH + 2 * discarded;
    assert!(report.event("seen") + off >= records, "{discarded} children were discarded");
    let (client, server) = (report.row("client", PORT), report.row("server", PORT));
    assert_eq!(client.count("open") + server.count("open"), 0);
    // Some may already have expired.
    let possible = after.get("sockstat.tw")..=before.get("sockstat.tw");
    // A race can lose a FIN, which leaves an orphan in FIN_WAIT2.
    let reported = client.timewait_sockets() + server.timewait_sockets();
    assert!(possible.contains(&reported), "in TIME_WAIT: {reported}, not {possible:?}");
}

#[test]
fn losses_in_a_tiny_ring_are_counted_and_gauges_stay_correct() {
    const PORT: u16 = 7211;
    const OPEN: usize = 40;
    let connections = lab::scaled(20_000, 2_000) as u64;
    let _lab = lab::enter_alone();
    let namespace = Namespace::new();
    let mut open = OpenConnections::new(&namespace, PORT + 1, OPEN);
    let synfin = Synfin::watch(["report", "-o", "json", "--ring-size", "4K"]);
    open.change_amid_burst(PORT, connections);
    let report = open.finish(synfin, PORT).report();

    // `Report::complete` checks that seen = delivered + lost.
    assert!(report.event("lost") > 0, "a ring of 4 KiB must lose something");
    assert!(report.event("seen") + report.missing() >= connections * RECORDS_EACH);
    assert!(report.says_lower_bounds());
    assert_eq!(report.row("server", PORT + 1).count("open"), OPEN as u64);
}

/// Checks a report of a burst against the namespace's counters; they may differ by `off` records.
#[track_caller]
pub(crate) fn check_whole(
    report: &Report,
    port: u16,
    connections: u64,
    counters: &Counters,
    off: u64,
) {
    let (client, server) = (report.row("client", port), report.row("server", port));
    let both = |column: &str| client.count(column) + server.count(column);
    let columns = [
        ("attempts", client.count("attempts"), counters.get("ActiveOpens")),
        ("clients", client.count("established"), connections),
        ("servers", server.count("established"), connections),
        ("client handshakes", client.count("handshake.clean.count"), connections),
        ("closed clients", client.count("closed"), connections),
        ("closed servers", server.count("closed"), connections),
        ("adopted", both("adopted"), 0),
    ];
    let entered = lab::time_waits_entered(counters);
    let entered = entered.map(|count| ("entries into TIME_WAIT", both("time_wait.entered"), count));
    for (name, reported, counted) in columns.into_iter().chain(entered) {
        assert!(reported.abs_diff(counted) <= off, "{name}: {reported}, not {counted}");
    }
}

/// Connections that stay open while others open and close.
pub(crate) struct OpenConnections<'a> {
    namespace: &'a Namespace,
    listener: TcpListener,
    /// The listeners of bursts. They prove the role of TIME_WAITs whose records were lost.
    of_bursts: Vec<TcpListener>,
    address: SocketAddr,
    pairs: Vec<Pair>,
}

impl<'a> OpenConnections<'a> {
    pub(crate) fn new(namespace: &'a Namespace, port: u16, count: usize) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = namespace.listen(address);
        let (of_bursts, pairs) = Default::default();
        let mut open = Self { namespace, listener, of_bursts, address, pairs };
        open.add(count);
        open
    }

    fn add(&mut self, count: usize) {
        let pairs = (0..count).map(|_| self.namespace.pair_with(&self.listener, self.address));
        self.pairs.extend(pairs);
    }

    /// Makes a burst to another port, while some of these connections open and close: if records
    /// are lost, some of theirs are too.
    pub(crate) fn change_amid_burst(&mut self, port: u16, connections: u64) {
        let namespace = self.namespace;
        let listener = listener(namespace, port);
        thread::scope(|scope| {
            let burst = scope.spawn(|| burst_to(&listener, namespace, connections));
            while !burst.is_finished() {
                self.add(1);
                self.pairs.swap_remove(0).close_by_client();
            }
            burst.join().expect("the burst");
        });
        self.of_bursts.push(listener);
    }

    /// Ends synfin, and checks with `ss` which of these connections and of a burst to another port are
    /// open or in TIME_WAIT.
    #[track_caller]
    pub(crate) fn finish(&self, synfin: Synfin, port: u16) -> Finished {
        self.namespace.wait_until_quiet();
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
                assert_eq!(row.count("open"), in_state(&before, "ESTAB"), "open: {role} {port}");
                // Some may already have expired.
                let possible = in_state(&after, "TIME-WAIT")..=in_state(&before, "TIME-WAIT");
                let reported = row.count("time_wait.now");
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
fn continuous_scans_neither_adopt_nor_lose_connections() {
    const PORT: u16 = 7221;
    const EACH: u64 = 4_000;
    let _lab = lab::enter_alone();
    let namespace = Namespace::new();
    let listener = listener(&namespace, PORT);
    let (_folder, recording) = lab::recording_file();
    let path = &*recording;
    let synfin = Synfin::watch(["report", "-o", "json", "--scan-always", "--record", path]);
    let (mut bursts, mut connections) = (Vec::new(), 0);
    lab::eventually("enough scans begin during bursts", || {
        let begun = lab::now();
        burst_to(&listener, &namespace, EACH);
        let ended = lab::now();
        bursts.push(begun..ended);
        connections += EACH;
        // A slow machine falls behind during a burst.
        let scans = lab::eventually("a scan begins after the burst", || {
            let scans = starts_of_scans(path, namespace.id());
            scans.last().is_some_and(|&last| last > ended).then_some(scans)
        });
        let during = |start| bursts.iter().any(|burst| burst.contains(start));
        let enough = scans.iter().filter(|start| during(start)).count() >= lab::scaled(20, 3);
        let is_long = connections >= lab::scaled(40_000, 10_000) as u64;
        (is_long && enough).then_some(())
    });
    namespace.wait_until_quiet();
    let report = synfin.finish().report();

    let off = report.missing();
    for role in ["client", "server"] {
        let row = report.row(role, PORT);
        let lost = row.count("closes.lost_sight") + row.count("failures.connect_lost_sight");
        let (adopted, closed) = (row.count("adopted"), row.count("closed"));
        assert!(adopted + lost <= off, "{role}: {adopted} adopted, {lost} lost, {off} missing");
        assert!(
            closed.abs_diff(connections) <= off,
            "{role}: {closed} of {connections} closed, {off} missing: {row:?}"
        );
    }
}

/// The number of scans of a namespace in a recording, which may still be written.
pub(crate) fn scans_in(recording: impl AsRef<Path>, netns: u64) -> usize {
    starts_of_scans(recording, netns).len()
}

/// When the scans of a namespace started (CLOCK_MONOTONIC, nanoseconds).
pub(crate) fn starts_of_scans(recording: impl AsRef<Path>, netns: u64) -> Vec<u64> {
    let file = File::open(recording).expect("the recording");
    let frames = Reader::new(BufReader::new(file)).into_iter().flatten().map_while(Result::ok);
    let mut ids = BTreeSet::from([netns]);
    let mut learn = |inodes: &BTreeMap<u32, u32>| {
        let here = inodes.iter().filter(|&(_, &inode)| u64::from(inode) == netns);
        ids.extend(here.map(|(&id, _)| u64::from(id)));
    };
    let mut scans = Vec::new();
    for frame in frames {
        match frame {
            Frame::Session(session) => learn(&session.inodes),
            Frame::Names(names) => learn(&names.inodes),
            Frame::ScanEnd(end) if end.error.is_none() => scans.push(end),
            _ => {}
        }
    }
    let here = scans.iter().filter(|end| ids.contains(&u64::from(end.netns)));
    here.map(|end| end.started).collect()
}

/// Makes short connections on loopback as fast as two threads can; each side closes half of them
/// first.
pub(crate) fn burst(namespace: &Namespace, port: u16, connections: u64) {
    burst_to(&listener(namespace, port), namespace, connections);
}

/// A listener for several bursts.
pub(crate) fn listener(namespace: &Namespace, port: u16) -> TcpListener {
    namespace.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
}

/// Like [`burst`], with an existing listener.
pub(crate) fn burst_to(listener: &TcpListener, namespace: &Namespace, connections: u64) {
    let port = listener.local_addr().expect("its address").port();
    // The address decides which side closes first: accept() need not return connections in order.
    let is_odd = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => ip.octets()[3] % 2 == 1,
        IpAddr::V6(_) => unreachable!("all addresses are IPv4"),
    };
    let server = || {
        for _ in 0..connections {
            let stream = lab::accept(listener);
            let after_the_peer = is_odd(stream.local_addr().expect("its address"));
            end(stream, after_the_peer);
        }
    };
    let client = || {
        for number in 0..connections {
            // Many addresses, so that no range of ports is exhausted.
            let address = Ipv4Addr::new(127, 0, 1, (number % 250) as u8 + 1);
            let stream = TcpStream::connect((address, port)).expect("a connection");
            stream.set_read_timeout(Some(lab::deadline())).expect("SO_RCVTIMEO");
            end(stream, !is_odd((address, port).into()));
        }
    };
    namespace.within(|| {
        thread::scope(|scope| {
            scope.spawn(server);
            scope.spawn(client);
        });
    });
}

/// Closes at once or after the peer.
fn end(mut stream: TcpStream, after_the_peer: bool) {
    if after_the_peer {
        let read = stream.read(&mut [0]).expect("the peer's end");
        assert_eq!(read, 0);
    }
}
