//! Ephemeral ports: the number in use toward a destination, and the time of their exhaustion.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    thread,
    time::{Duration, Instant, SystemTime},
};

use nix::libc;
use serde_json::Value;
use socket2::Socket;

use super::{column, column_of, time, watch};
use crate::lab::{self, Namespace, Pair, Report, Wire, accept, connect_to};

/// The size of the clients' ephemeral port range.
const PORTS: u64 = 100;

/// Its size where the time of their exhaustion is compared with the forecast. The rate is such that an
/// interval has many connections, so that one more or less does not matter.
const PORTS_TO_EXHAUST: u64 = 400;
const PER_SECOND: u32 = 20;

const LIVE: usize = 40;
const TIME_WAITS: usize = 30;

/// A pair of namespaces whose clients have few ports, and the connections that use them.
struct Scarce {
    wire: Wire,
    at: SocketAddr,
    listener: TcpListener,
    kept: Vec<Pair>,
}

impl Scarce {
    fn new(at: SocketAddr, ports: u64, tw_reuse: u8) -> Self {
        let wire = Wire::new();
        wire.near.set("ipv4/ip_local_port_range", format!("40000 {}", 40_000 + ports - 1));
        wire.near.set("ipv4/tcp_tw_reuse", tw_reuse);
        let listener = wire.far.listen(at);
        Self { wire, at, listener, kept: Vec::new() }
    }

    fn take_ports(&mut self) {
        self.kept.extend(self.wire.pairs(&self.listener, self.at, LIVE));
        self.wire.pairs(&self.listener, self.at, TIME_WAITS).for_each(Pair::close_by_client);
        self.wire.near.wait_until_quiet();
    }

    /// Connects steadily until no port is left. Returns the time, and the longest delay of a connect.
    fn exhaust(&mut self, keep: bool) -> (SystemTime, Duration) {
        let begun = Instant::now();
        let mut late = Duration::ZERO;
        for number in 0.. {
            let due = Duration::from_secs(1) * number / PER_SECOND;
            thread::sleep(due.saturating_sub(begun.elapsed()));
            late = late.max(begun.elapsed().saturating_sub(due));
            let client: TcpStream = match self.wire.near.connect(self.at) {
                Ok(client) => client,
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL));
                    return (SystemTime::now(), late);
                }
            };
            let pair = Pair { client, server: accept(&self.listener) };
            if keep {
                self.kept.push(pair);
            } else {
                pair.close_by_client();
            }
        }
        unreachable!("the loop ends when no port is left");
    }

    fn row<'a>(&self, report: &'a Value) -> &'a Value {
        let mut rows = report["ports"].as_array().expect("ports").iter();
        rows.find(|row| row["role"] == "client" && row["port"] == self.at.port()).expect("its row")
    }
}

/// Connects steadily until no port is left, and compares that time with the predictions.
#[track_caller]
fn check_forecast(at: SocketAddr, tw_reuse: u8, keep: bool) {
    /// On a busy machine, connecting is not always steady.
    const LEEWAY: Duration = Duration::from_millis(300);
    let (scarce, reports, end) = lab::under("connections are made steadily", || {
        let mut scarce = Scarce::new(at, PORTS_TO_EXHAUST, tw_reuse);
        scarce.take_ports();
        let synfin = watch(&[&scarce.wire.near], &["3"]);
        let (end, late) = scarce.exhaust(keep);
        let reports = synfin.finish().json_lines();
        (late < LEEWAY).then_some((scarce, reports, end))
    });
    scarce.check_reports(&reports, end);
}

impl Scarce {
    #[track_caller]
    fn check_reports(&self, reports: &[Value], end: SystemTime) {
        // The first interval is incomplete, and in the last ones the ports are exhausted.
        let left = |report: &Value| {
            let left = end.duration_since(time(&report["interval"]["end"])).unwrap_or_default();
            (left > Duration::from_secs(4)).then_some(left.as_secs_f64())
        };
        let mut checked = 0;
        for report in reports.iter().skip(1) {
            let Some(left) = left(report) else { continue };
            let ports = &self.row(report)["ephemeral"];
            let forecast = ports["exhausted_in_us"].as_f64();
            let forecast =
                forecast.unwrap_or_else(|| panic!("{left} s before it: {ports:#}")) / 1e6;
            // It is in whole seconds, rounded up.
            let error = (left - forecast).max(forecast - left - 1.0).max(0.0) / left;
            eprintln!("{left:.1} s are left, and {forecast} s were forecast");
            assert!(
                error < error_at_most(),
                "{left} s are left, and {forecast} s were forecast, an error of {error}: {ports:#}"
            );
            checked += 1;
        }
        assert!(checked > 0, "nothing was forecast: {reports:#?}");
    }
}

/// The relative error allowed for a prediction. Connections that are late by as much as a test
/// allows are an error of 10 % of an interval; on a slow machine connections are less steady.
fn error_at_most() -> f64 {
    if lab::is_slow() { 0.3 } else { 0.15 }
}

#[test]
fn ports_in_use_are_counted_per_destination() {
    let _lab = lab::enter();
    let at = SocketAddr::from((Wire::FAR4, 9281));
    let other = SocketAddr::from((Wire::FAR6, 9281));
    // Found by a scan in one run, observed by the hooks in the other.
    for beforehand in [true, false] {
        let (report, _kept) = lab::conclusive(|| {
            let mut scarce = Scarce::new(at, PORTS, 0);
            let early = beforehand.then(|| {
                scarce.take_ports();
                watch(&[&scarce.wire.near], &[])
            });
            let synfin = early.unwrap_or_else(|| {
                let synfin = watch(&[&scarce.wire.near], &[]);
                scarce.take_ports();
                synfin
            });
            // The same ports toward another destination.
            let listener = scarce.wire.far.listen(other);
            let elsewhere: Vec<_> = scarce.wire.pairs(&listener, other, 5).collect();
            (synfin.finish().report(), (scarce, elsewhere))
        });
        let reported = ["used", "ports", "used_pct", "remote"]
            .map(|name| column(&report, "client", at.port(), &format!("ephemeral.{name}")));
        let taken = LIVE + TIME_WAITS;
        assert_eq!(
            reported[..3].iter().map(Value::as_f64).collect::<Vec<_>>(),
            [taken as f64, PORTS as f64, 70.0].map(Some),
            "{beforehand}"
        );
        assert_eq!(reported[3], Wire::FAR4.to_string());
    }
}

#[test]
fn time_waits_exhaust_the_ports_when_predicted() {
    let _lab = lab::enter();
    check_forecast((Wire::FAR4, 9282).into(), 0, false);
}

#[test]
fn with_time_wait_reuse_open_connections_exhaust_the_ports_when_predicted() {
    let _lab = lab::enter();
    check_forecast((Wire::FAR4, 9283).into(), 1, true);
}

#[test]
fn with_time_wait_reuse_closing_connections_exhaust_no_ports() {
    let _lab = lab::enter();
    let mut scarce = Scarce::new((Wire::FAR4, 9284).into(), PORTS, 1);
    scarce.take_ports();
    let synfin = watch(&[&scarce.wire.near], &["2"]);
    // More connections than there are ports.
    for _ in 0..PORTS {
        thread::sleep(Duration::from_millis(60));
        scarce.wire.near.pair_with(&scarce.listener, scarce.at).close_by_client();
    }
    let reports = synfin.finish().json_lines();
    let rows: Vec<_> = reports.iter().skip(1).map(|report| scarce.row(report)).collect();
    assert!(!rows.is_empty());
    for row in rows {
        let forecast = column_of(row, "ephemeral.exhausted_in_us");
        // On a slow machine their number fluctuates, which may look like slow growth.
        let is_far_off = lab::is_slow() && forecast.as_f64() > Some(60e6);
        assert!(forecast.is_null() || is_far_off, "{:#}", row["ephemeral"]);
    }
}

/// The size of a range that is used up.
const FEW: u64 = 20;

/// Leaves clients of this namespace with [`FEW`] ports.
fn limit_ports(namespace: &Namespace) {
    namespace.set("ipv4/ip_local_port_range", "43000 43019");
}

/// The ephemeral ports in use toward `remote` ports, by the kernel's own list of sockets.
fn ports_in_use(namespace: &Namespace, toward: impl Fn(u16) -> bool + Sync) -> u64 {
    let table = namespace.within(|| std::fs::read_to_string("/proc/thread-self/net/tcp"));
    let table = table.expect("/proc/net/tcp");
    let port = |end: &str| {
        let (_, port) = end.rsplit_once(':').expect("an endpoint");
        u16::from_str_radix(port, 16).expect("a port")
    };
    let sockets = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ends = sockets.map(|fields| (port(fields[1]), port(fields[2])));
    let used = ends.filter(|&(local, remote)| (43000..=43019).contains(&local) && toward(remote));
    used.map(|(local, _)| local).collect::<std::collections::BTreeSet<_>>().len() as u64
}

/// Checks that connect() finds no port.
#[track_caller]
fn check_exhausted(socket: Socket, to: SocketAddr) {
    let result = socket.connect(&to.into());
    let error = result.expect_err("no port is left").raw_os_error();
    assert_eq!(error, Some(libc::EADDRNOTAVAIL));
}

/// The columns about ephemeral ports of the row of this destination.
#[track_caller]
fn use_of(report: &Report, port: u16) -> [Value; 4] {
    ["used", "ports", "is_shared", "local"]
        .map(|name| column(report, "client", port, &format!("ephemeral.{name}")))
}

#[test]
fn orphans_in_fin_wait2_hold_their_ports() {
    let _lab = lab::enter();
    let at = SocketAddr::from((Wire::FAR4, 9285));
    // Found by a scan in one run, observed by the hooks in the other.
    for beforehand in [true, false] {
        let wire = Wire::new();
        limit_ports(&wire.near);
        let listener = wire.far.listen(at);
        let fill = || {
            let pairs: Vec<_> = wire.pairs(&listener, at, FEW as usize).collect();
            let servers: Vec<_> = pairs.into_iter().map(|pair| pair.server).collect();
            wire.near.wait_until_quiet();
            thread::sleep(Duration::from_secs(2));
            servers
        };
        let watched = || watch(&[&wire.near], &["1"]);
        let (synfin, kept) = if beforehand {
            let kept = fill();
            (watched(), kept)
        } else {
            let synfin = watched();
            (synfin, fill())
        };
        thread::sleep(Duration::from_secs(2));
        check_exhausted(wire.near.socket(Wire::FAR4), at);
        assert_eq!(ports_in_use(&wire.near, |port| port == at.port()), FEW);
        let reports = synfin.finish().json_lines();
        let row = |report: &Value| {
            let mut rows = report["ports"].as_array().expect("ports").iter();
            rows.find(|row| row["role"] == "client" && row["port"] == at.port()).cloned()
        };
        let used: Vec<_> =
            reports.iter().filter_map(row).map(|row| row["ephemeral"]["used"].as_u64()).collect();
        let full = used.iter().position(|&used| used == Some(FEW)).expect("all ports in use");
        assert!(used[full..].iter().all(|&used| used == Some(FEW)), "{beforehand}: {used:?}");
        let last = reports.iter().filter_map(row).next_back().expect("the row");
        assert_eq!(last["ephemeral"]["used_pct"], 100.0, "{beforehand}");
        drop(kept);
    }
}

#[test]
fn ports_that_bind_took_are_shared_by_all_destinations() {
    let _lab = lab::enter();
    let ports = [9286, 9287, 9288];
    let wire = Wire::new();
    limit_ports(&wire.near);
    let listeners = ports.map(|port| wire.far.listen((Wire::FAR4, port)));
    let synfin = watch(&[&wire.near], &[]);
    let any = SocketAddr::from((Wire::NEAR4, 0));
    let mut kept = Vec::new();
    for n in 0..FEW as usize {
        let (listener, port) = (&listeners[n % 3], ports[n % 3]);
        let client = wire.near.socket(Wire::NEAR4);
        client.bind(&any.into()).expect("a port");
        let client = connect_to(client, (Wire::FAR4, port).into()).expect("a connection");
        kept.push(Pair { client, server: accept(listener) });
    }
    let bind = wire.near.socket(Wire::NEAR4).bind(&any.into());
    let error = bind.expect_err("no port is left").raw_os_error();
    assert_eq!(error, Some(libc::EADDRINUSE));
    for port in ports {
        check_exhausted(wire.near.socket(Wire::FAR4), (Wire::FAR4, port).into());
    }
    assert_eq!(ports_in_use(&wire.near, |port| ports.contains(&port)), FEW);
    let report = synfin.finish().report();
    for port in ports {
        let expected: [Value; 4] =
            [FEW.into(), FEW.into(), true.into(), Wire::NEAR4.to_string().into()];
        assert_eq!(use_of(&report, port), expected, "{port}");
        assert_eq!(column(&report, "client", port, "ephemeral.used_pct"), 100.0, "{port}");
    }
}

#[test]
fn the_fullest_local_address_is_reported() {
    /// `IP_BIND_ADDRESS_NO_PORT` (`include/uapi/linux/in.h`): bind() takes no port.
    const NO_PORT: i32 = 24;
    let _lab = lab::enter();
    let namespace = Namespace::new();
    limit_ports(&namespace);
    let at = SocketAddr::from(([127, 0, 0, 1], 9289));
    let [one, full] = [[127, 0, 0, 1], [127, 0, 0, 2]].map(|ip| SocketAddr::from((ip, 0)));
    let listener = namespace.listen(at);
    let client = |local: SocketAddr| {
        let socket = namespace.socket(local.ip());
        set_ip_option(&socket, NO_PORT);
        socket.bind(&local.into()).expect("an address");
        socket
    };
    for beforehand in [true, false] {
        let early = (!beforehand).then(|| watch(&[&namespace], &[]));
        let mut kept = Vec::new();
        for (local, count) in [(one, 5), (full, FEW)] {
            for _ in 0..count {
                let client = connect_to(client(local), at).expect("a connection");
                kept.push(Pair { client, server: accept(&listener) });
            }
        }
        let synfin = early.unwrap_or_else(|| watch(&[&namespace], &[]));
        let report = synfin.finish().report();
        let expected: [Value; 4] =
            [FEW.into(), FEW.into(), false.into(), full.ip().to_string().into()];
        assert_eq!(use_of(&report, at.port()), expected, "{beforehand}");
        check_exhausted(client(full), at);
        connect_to(client(one), at).expect("a port is left at the other address");
        accept(&listener);
        kept.into_iter().for_each(Pair::close_by_server);
    }
}

/// Sets an option of the IP layer to 1.
#[track_caller]
fn set_ip_option(socket: &Socket, option: i32) {
    let (value, length) = (1_i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: the value has this number of bytes.
    let result = unsafe {
        let from = (&raw const value).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, option, from, length)
    };
    assert_eq!(result, 0, "IP option {option}: {}", std::io::Error::last_os_error());
}
