//! Resets without a connection.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::MetadataExt,
    thread,
};

use nix::libc;

use super::{column_of, watch};
use crate::lab::{self, Feature, MayMiss, Report, Synfin, Wire};

/// A count in the port's row and in the row of all other ports; 0 if it is left out.
fn of_port_and_rest(report: &Report, port: u16, name: &str) -> [u64; 2] {
    let of = |port: Option<u16>| {
        let is_it = |row: &&serde_json::Value| {
            row["role"] == "server" && row["port"] == serde_json::Value::from(port)
        };
        let rows = report.rows().iter().filter(is_it);
        rows.map(|row| column_of(row, name).as_u64().unwrap_or(0)).sum()
    };
    [of(Some(port)), of(None)]
}

fn is_refused(result: std::io::Result<TcpStream>) {
    let error = result.expect_err("no listener").raw_os_error();
    assert_eq!(error, Some(libc::ECONNREFUSED));
}

#[test]
fn resets_of_a_closed_port_agree_with_the_kernels_count() {
    const PORT: u16 = 9221;
    const HITS: u64 = 40;
    let _lab = lab::enter();
    if lab::lacks(Feature::ResetsWithoutSocket) {
        return;
    }
    let (report, sent) = lab::conclusive(|| {
        let wire = Wire::new();
        let synfin = watch(&[&wire.far], &[]);
        for number in 0..HITS {
            let to = if number % 4 == 0 { Wire::FAR6 } else { Wire::FAR4 };
            is_refused(wire.near.connect((to, PORT)));
        }
        let sent = wire.far.counters().get("OutRsts");
        (synfin.finish().report(), sent)
    });
    assert_eq!(sent, HITS);
    for name in ["resets.count", "resets.reasons.no_socket"] {
        let [of_port, of_rest] = of_port_and_rest(&report, PORT, name);
        assert_eq!(of_port + of_rest, HITS, "{name}");
        // The first few do not create a row.
        assert!(of_rest < 5, "{name}: {of_rest}");
    }
}

#[test]
fn a_service_that_is_down_on_an_ephemeral_port_gets_a_row() {
    const PORT: u16 = 50_051;
    const HITS: u64 = 5;
    let _lab = lab::enter();
    if lab::lacks(Feature::ResetsWithoutSocket) {
        return;
    }
    let (report, ()) = lab::conclusive(|| {
        let wire = Wire::new();
        let synfin = watch(&[&wire.far], &[]);
        for _ in 0..HITS {
            is_refused(wire.far.connect((Ipv4Addr::LOCALHOST, PORT)));
        }
        (synfin.finish().report(), ())
    });
    let counts = of_port_and_rest(&report, PORT, "resets.reasons.no_socket");
    assert_eq!(counts, [HITS, 0]);
}

#[test]
fn a_listener_that_aborts_on_overflow_resets_too() {
    let _lab = lab::enter();
    if lab::lacks(Feature::ResetsWithoutSocket) {
        return;
    }
    let at = SocketAddr::from((Wire::FAR4, 9222));
    let (report, (sent, _sockets)) = lab::conclusive(|| {
        let wire = Wire::new();
        wire.far.set("ipv4/tcp_abort_on_overflow", 1);
        let synfin = watch(&[&wire.far], &[]);
        let listener = wire.far.listen_up_to(at, 3);
        // The last ACKs of two handshakes arrive only when the queue is full.
        let acks = format!("tcp dport {} tcp flags & (syn | ack) == ack", at.port());
        wire.far.filter("acks", &format!("{acks} counter drop"));
        let connect = || wire.near.connect(at).expect("an apparent connection");
        let late = [connect(), connect()];
        let [one, other] = late.each_ref().map(|it| it.local_addr().expect("its address").port());
        let late_acks = format!("{acks} tcp sport {{ {one}, {other} }} counter drop");
        wire.far.filter("late_acks", &late_acks);
        wire.far.unfilter("acks");
        let clients = [(); 4].map(|()| connect());
        wire.far.unfilter("late_acks");
        // Each retransmitted SYN-ACK is answered.
        let counter = || wire.far.counters().get("OutRsts");
        lab::eventually_equal("resets", 2, counter);
        (synfin.finish().report(), (counter(), (wire, listener, clients, late)))
    });
    assert_eq!(sent, 2);
    let [of_port, of_rest] = of_port_and_rest(&report, at.port(), "resets.count");
    assert_eq!([of_port, of_rest], [2, 0]);
    let reasons = ["invalid_syn", "no_socket"]
        .map(|reason| of_port_and_rest(&report, at.port(), &format!("resets.reasons.{reason}"))[0]);
    assert_eq!(reasons, [2, 0]);
}

/// Resets sent by each namespace.
fn resets_by_namespace() -> BTreeMap<u64, u64> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let counters = processes.filter_map(|process| {
        let path = process.path();
        let namespace = fs::metadata(path.join("ns/net")).ok()?.ino();
        let text = fs::read_to_string(path.join("net/snmp")).ok()?;
        let mut tcp = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let index = tcp.next()?.split(' ').position(|name| name == "OutRsts")?;
        let count = tcp.next()?.split(' ').nth(index)?.parse().ok()?;
        Some((namespace, count))
    });
    counters.collect()
}

#[test]
fn resets_of_a_port_scan_add_up() {
    const PORTS: u16 = 2_000;
    const FIRST: u16 = 20_001;
    let _lab = lab::enter_alone();
    if lab::lacks(Feature::ResetsWithoutSocket) {
        return;
    }
    // Where the kernel preempts programs on its functions, it always skips some.
    let may_miss = if lab::since(7, 0) { MayMiss::one_in(50) } else { MayMiss::NONE };
    // Without a filter: resets that do not fit into the kernel's map have no namespace.
    let (report, missing) = lab::under("no other process on this machine causes resets", || {
        let before = resets_by_namespace();
        let (report, here, missing) = lab::nearly_whole(may_miss, || {
            let wire = Wire::new();
            let here = wire.far.id();
            let synfin = Synfin::watch(["report", "-o", "json"]);
            let wire = &wire;
            thread::scope(|scope| {
                for worker in 0..4 {
                    let ports = (FIRST..FIRST + PORTS).skip(worker).step_by(4);
                    scope.spawn(move || {
                        // Entering the namespace once is enough.
                        wire.near.within(|| {
                            for port in ports {
                                let to = SocketAddr::from((Wire::FAR4, port));
                                is_refused(TcpStream::connect(to));
                            }
                        });
                    });
                }
            });
            assert_eq!(wire.far.counters().get("OutRsts"), u64::from(PORTS));
            (synfin.finish().report(), here)
        });
        let after = resets_by_namespace();
        // Resets of others would be in the row of all other ports as well.
        let others = |counts: BTreeMap<u64, u64>| -> BTreeMap<_, _> {
            counts.into_iter().filter(|&(id, count)| id != here && count > 0).collect()
        };
        let is_quiet = others(before) == others(after);
        is_quiet.then_some((report, missing))
    });
    let [of_port, of_rest] = of_port_and_rest(&report, FIRST, "resets.reasons.no_socket");
    assert_eq!(of_port, 0);
    let all = u64::from(PORTS);
    assert!((all - missing..=all).contains(&of_rest), "{of_rest} of {all}");
}
