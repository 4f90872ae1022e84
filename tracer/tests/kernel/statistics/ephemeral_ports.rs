//! Ephemeral ports: the number in use toward a destination, and the time of their exhaustion.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant, SystemTime},
};

use nix::libc;
use serde_json::Value;

use super::{column, column_of, time, watch};
use crate::lab::{self, Pair, Wire, accept};

/// The size of the clients' ephemeral port range.
const PORTS: u64 = 100;
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
    fn new(at: SocketAddr, tw_reuse: u8) -> Self {
        let wire = Wire::new();
        wire.near.set("ipv4/ip_local_port_range", "40000 40099");
        wire.near.set("ipv4/tcp_tw_reuse", tw_reuse);
        let listener = wire.far.listen(at);
        Self { wire, at, listener, kept: Vec::new() }
    }

    fn take_ports(&mut self) {
        self.kept.extend(self.wire.pairs(&self.listener, self.at, LIVE));
        self.wire.pairs(&self.listener, self.at, TIME_WAITS).for_each(Pair::close_by_client);
        self.wire.near.wait_until_quiet();
    }

    /// Connects at this rate per second until no port is left. Returns the time, and the longest
    /// delay of a connect.
    fn exhaust(&mut self, per_second: u32, keep: bool) -> (SystemTime, Duration) {
        let begun = Instant::now();
        let mut late = Duration::ZERO;
        for number in 0.. {
            let due = Duration::from_secs(1) * number / per_second;
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
fn check_forecast(at: SocketAddr, tw_reuse: u8, per_second: u32, keep: bool) {
    /// On a busy machine, connecting is not always steady.
    const LEEWAY: Duration = Duration::from_millis(300);
    let (scarce, reports, end) = lab::under("connections are made steadily", || {
        let mut scarce = Scarce::new(at, tw_reuse);
        scarce.take_ports();
        let synfin = watch(&[&scarce.wire.near], &["3"]);
        let (end, late) = scarce.exhaust(per_second, keep);
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
            let error = (forecast / left - 1.0).abs();
            eprintln!(
                "{left:.1} s are left, an error of {error:.3} of at most {}",
                error_at_most()
            );
            assert!(
                error < error_at_most(),
                "{left} s are left, and {forecast} s were forecast: {ports:#}"
            );
            checked += 1;
        }
        assert!(checked > 0, "nothing was forecast: {reports:#?}");
    }
}

/// The relative error allowed for a prediction. One connection more or less within an interval is
/// an error of 17 %; on a slow machine connections are less steady.
fn error_at_most() -> f64 {
    if lab::is_slow() { 0.4 } else { 0.2 }
}

#[test]
fn ports_in_use_are_counted_per_destination() {
    let _lab = lab::enter();
    let at = SocketAddr::from((Wire::FAR4, 9281));
    let other = SocketAddr::from((Wire::FAR6, 9281));
    // Found by a scan in one run, observed by the hooks in the other.
    for beforehand in [true, false] {
        let (report, _kept) = lab::conclusive(|| {
            let mut scarce = Scarce::new(at, 0);
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
    check_forecast((Wire::FAR4, 9282).into(), 0, 2, false);
}

#[test]
fn with_time_wait_reuse_open_connections_exhaust_the_ports_when_predicted() {
    let _lab = lab::enter();
    check_forecast((Wire::FAR4, 9283).into(), 1, 4, true);
}

#[test]
fn with_time_wait_reuse_closing_connections_exhaust_no_ports() {
    let _lab = lab::enter();
    let mut scarce = Scarce::new((Wire::FAR4, 9284).into(), 1);
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
