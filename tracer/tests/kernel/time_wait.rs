//! TIME_WAITs that do not simply expire: reused ports, a full table, and orphans in FIN_WAIT2. The
//! gauges have to agree with `ss` per port, and the entries with the kernel's counter.

use std::{
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    ops::RangeFrom,
    thread,
    time::Duration,
};

use synfin_common::state::TcpState;

use crate::lab::{
    self, Feature, Namespace, Pair, RowCounts, Sock, Synfin, TimeWaitTimers, Wire, accept,
    connect_to, eventually_equal, wait_for_state,
};

/// The first port of this file's tests.
const PORT: u16 = 7601;

/// The ports that clients bind.
const CHOSEN: [u16; 3] = [15_001, 15_002, 15_003];

/// Makes connections. Returns those left open, and the expected statistics of clients and servers.
type Play = fn(&Wire, SocketAddr) -> (Vec<TcpStream>, [RowCounts; 2]);

/// Plays, and compares the report with `ss`, the kernel's counters, and the expected statistics.
#[track_caller]
fn check(port: u16, play: Play) {
    let address = SocketAddr::from((Wire::FAR4, port));
    // On a slow machine a segment may be retransmitted before the answer arrives, which changes the
    // outcome of a connection.
    let (report, (open, counts, wire)) = lab::under("no segment was retransmitted", || {
        let (report, found) = lab::conclusive(|| {
            let wire = Wire::new();
            let synfin = Synfin::watch(["report", "-o", "json"]);
            let (open, counts) = play(&wire, address);
            wire.wait_until_quiet();
            (synfin.finish().report(), (open, counts, wire))
        });
        let sent_again = found.2.both().map(|namespace| namespace.counters().get("RetransSegs"));
        (sent_again == [0, 0]).then_some((report, found))
    });
    report.check_nothing_lost();
    let mut differences = Vec::new();
    for (namespace, role, counts) in
        [(&wire.near, "client", &counts[0]), (&wire.far, "server", &counts[1])]
    {
        differences.extend(report.difference(role, port, counts));
        let (row, sockets, counters) =
            (report.row(role, port), namespace.sockets(), namespace.counters());
        let count = |state: &str, is_small: bool| count(&sockets, state, is_small) as u64;
        let entered = lab::time_waits_entered(&counters);
        let oracles = [
            ("time_wait.now", Some(count("TIME-WAIT", true))),
            ("time_wait.fin_wait2_orphans", Some(count("FIN-WAIT-2", true))),
            ("states.fin_wait2", Some(count("FIN-WAIT-2", false))),
            ("time_wait.entered", entered),
            ("time_wait.overflowed", Some(counters.get("TCPTimeWaitOverflow"))),
        ];
        let oracles = oracles.into_iter().filter_map(|(column, count)| Some((column, count?)));
        for (column, counted) in oracles {
            let reported = row.count(column);
            if reported != counted {
                differences
                    .push(format!("{role}: {column} is {reported}, the kernel's is {counted}"));
            }
        }
    }
    drop(open);
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

/// Connects from a bound port.
fn pair_from(wire: &Wire, listener: &TcpListener, port: u16) -> Pair {
    let socket = wire.near.bound_socket((Wire::NEAR4, port));
    let to = listener.local_addr().expect("its address");
    let client = connect_to(socket, to).expect("a connection");
    Pair { client, server: accept(listener) }
}

#[test]
fn a_new_syn_ends_a_time_wait() {
    let _lab = lab::enter();
    check(PORT, |wire, address| {
        let listener = wire.far.listen(address);
        let pairs = || CHOSEN.map(|port| pair_from(wire, &listener, port));
        pairs().into_iter().for_each(Pair::close_by_server);
        wire.far.wait_until_quiet();
        // A new SYN from the same port ends the TIME_WAIT.
        let [first, second, third] = pairs();
        first.close_by_server();
        second.close_by_client();
        let clients = RowCounts::clients(6).closed("closed_by_peer", 4).closed("closed_by_us", 1);
        let servers = RowCounts::servers(6).closed("closed_by_us", 4).closed("closed_by_peer", 1);
        let counts = [
            clients.open("established", 1).time_waits(1),
            servers.open("established", 1).and("time_wait.entered", 4).and("time_wait.now", 1),
        ];
        (vec![third.client, third.server], counts)
    });
}

#[test]
fn connect_reuses_a_port_in_time_wait() {
    let _lab = lab::enter();
    check(PORT + 1, |wire, address| {
        // For all connections, not only on loopback.
        wire.near.set("ipv4/tcp_tw_reuse", 1);
        let listener = wire.far.listen(address);
        for port in CHOSEN {
            pair_from(wire, &listener, port).close_by_client();
        }
        // The kernel allows it after a second.
        thread::sleep(Duration::from_millis(1_500));
        let [kept, closed] = [0, 1].map(|n| pair_from(wire, &listener, CHOSEN[n]));
        closed.close_by_client();
        assert_eq!(wire.near.counters().get("TWRecycled"), 2);
        let clients = RowCounts::clients(5).closed("closed_by_us", 4).open("established", 1);
        let servers = RowCounts::servers(5).closed("closed_by_peer", 4).open("established", 1);
        // One TIME_WAIT was replaced, one replaced and entered again, one left alone.
        let clients = clients.and("time_wait.entered", 4).and("time_wait.now", 2);
        (vec![kept.client, kept.server], [clients, servers])
    });
}

#[test]
fn a_full_time_wait_table_rejects_more() {
    const LIMIT: u64 = 7;
    const TRIED: usize = 20;
    let _lab = lab::enter();
    check(PORT + 2, |wire, address| {
        wire.near.set("ipv4/tcp_max_tw_buckets", LIMIT);
        let listener = wire.far.listen(address);
        let mut answered_by_ack = LIMIT;
        for (number, Pair { client, server }) in (0..).zip(wire.pairs(&listener, address, TRIED)) {
            drop(client);
            wait_for_state(&server, TcpState::CloseWait);
            wire.near.wait_until_quiet();
            // A socket that is locked when its FIN is acknowledged, as by a scan, waits for the peer's FIN as it
            // is (`net/ipv4/tcp_input.c:tcp_rcv_state_process`). Without a socket, the kernel answers with a RST.
            let has_socket = count(&wire.near.sockets(), "FIN-WAIT-2", false) > 0;
            answered_by_ack += u64::from(number >= LIMIT && has_socket);
            drop(server);
            wire.far.wait_until_quiet();
        }
        let (tried, over) = (TRIED as u64, TRIED as u64 - LIMIT);
        let clients = RowCounts::clients(tried).closed("closed_by_us", tried).time_waits(LIMIT);
        let clients = clients.and("time_wait.overflowed", over);
        let servers = RowCounts::servers(tried).closed("closed_by_peer", answered_by_ack);
        (Vec::new(), [clients, servers.closed("reset_by_peer_closing", tried - answered_by_ack)])
    });
}

/// Each takes the only entry of the table, and leaves it before the next one.
#[test]
fn the_time_wait_that_fills_the_table_is_counted() {
    const TURNS: u64 = 3;
    let _lab = lab::enter();
    check(PORT + 4, |wire, address| {
        wire.near.set("ipv4/tcp_max_tw_buckets", 1);
        // In seconds: long enough to be seen by `ss`.
        wire.near.set("ipv4/tcp_fin_timeout", if lab::is_slow() { 10 } else { 1 });
        let listener = wire.far.listen(address);
        let mut open = Vec::new();
        for Pair { client, server } in wire.pairs(&listener, address, TURNS as usize) {
            drop(client);
            eventually_equal("sockets that wait for a FIN", 1, || small(&wire.near, "FIN-WAIT-2"));
            // The entry is there for a moment after `ss` has lost sight of the socket.
            eventually_equal("entries of the table", 0, || wire.near.counters().get("sockstat.tw"));
            open.push(server);
        }
        let clients = RowCounts::clients(TURNS).closed("closed_by_us", TURNS);
        let clients = clients.and("time_wait.entered", TURNS);
        (open, [clients, RowCounts::servers(TURNS).open("close_wait", TURNS)])
    });
}

/// A closed socket waits for the peer's FIN as a timewait socket; a half-closed one as a full
/// socket.
#[test]
fn an_orphan_in_fin_wait2_is_not_in_time_wait() {
    let _lab = lab::enter();
    check(PORT + 3, |wire, address| {
        let listener = wire.far.listen(address);
        let [left, half_closed, ended] =
            [3, 2, 1].map(|count| wire.pairs(&listener, address, count).collect::<Vec<_>>());
        let mut open = Vec::new();
        for Pair { client, server } in left {
            drop(client);
            wait_for_state(&server, TcpState::CloseWait);
            open.push(server);
        }
        for pair in half_closed {
            pair.client.shutdown(Shutdown::Write).expect("shutdown");
            wait_for_state(&pair.client, TcpState::FinWait2);
            wait_for_state(&pair.server, TcpState::CloseWait);
            open.extend([pair.client, pair.server]);
        }
        for Pair { client, server } in ended {
            drop(client);
            wait_for_state(&server, TcpState::CloseWait);
            // Usually as a timewait socket; as a full one if it was locked just then.
            eventually_equal("sockets that wait for a FIN", 3 + 2 + 1, || {
                wire.near.sockets().iter().filter(|it| it.state == "FIN-WAIT-2").count()
            });
            drop(server);
        }
        eventually_equal("sockets in TIME_WAIT", 1, || small(&wire.near, "TIME-WAIT"));
        let clients = RowCounts::clients(6).closed("closed_by_us", 4).open("fin_wait2", 2);
        let clients = clients
            .and("time_wait.entered", 4)
            .and("time_wait.now", 1)
            .and("time_wait.fin_wait2_orphans", 3);
        let servers = RowCounts::servers(6).closed("closed_by_peer", 1).open("close_wait", 5);
        (open, [clients, servers])
    });
}

fn small(namespace: &Namespace, state: &str) -> usize {
    count(&namespace.sockets(), state, true)
}

fn count(sockets: &[Sock], state: &str, is_small: bool) -> usize {
    sockets.iter().filter(|it| it.state == state && it.is_small == is_small).count()
}

#[test]
fn time_waits_agree_with_the_kernels_timers() {
    // A random port can be chosen again, and its SYN would end the TIME_WAIT of the server: the
    // kernel draws where it begins to look every ten seconds (`secure_seq.c`).
    const PORTS: RangeFrom<u16> = 20_001..;
    const KILLED: u16 = 20_000;
    let _lab = lab::enter_alone();
    let each = lab::scaled(200, 50);
    let address = SocketAddr::from((Wire::FAR4, PORT + 5));
    let (report, (timed, left)) = lab::conclusive(|| {
        let wire = Wire::new();
        let listener = wire.far.listen(address);
        let synfin = Synfin::watch(["report", "-o", "json"]);
        let timers = TimeWaitTimers::watch();
        let mut pairs = PORTS.map(|port| pair_from(&wire, &listener, port));
        let mut pair = || pairs.next().expect("a port");
        for _ in 0..each {
            pair().close_by_client();
            // The peer's FIN comes later and restarts the timer.
            let Pair { client, server } = pair();
            drop(server);
            thread::sleep(lab::slowed(Duration::from_millis(1)));
            drop(client);
        }
        pair_from(&wire, &listener, KILLED).close_by_client();
        wire.wait_until_quiet();
        if !lab::lacks_for_a_part(Feature::TimeWaitsDestroyed) {
            wire.near.run(&format!("ss -K state time-wait sport = {KILLED}"));
        }
        let timed = timers.end();
        let left = wire.both().map(|namespace| namespace.counters().get("sockstat.tw"));
        (synfin.finish().report(), (timed, left.iter().sum::<u64>()))
    });
    let row = |role| report.row(role, address.port());
    let ours = |column: &str| row("client").count(column) + row("server").count(column);
    let entered = ours("time_wait.entered");
    assert_eq!(entered, 2 * each as u64 + 1);
    assert_eq!(ours("time_wait.now"), left);
    let killed = u64::from(!lab::lacks_for_a_part(Feature::TimeWaitsDestroyed));
    assert_eq!(left, entered - killed);
    // The timers are those of the whole host, so other traffic may add to them.
    let all = report.rows().iter().filter_map(|row| row.pointer("/time_wait/entered")?.as_u64());
    let others = all.sum::<u64>() - entered;
    assert!(timed.began.abs_diff(entered) <= others, "{timed:?}, not {entered} (others: {others})");
    assert!(timed.left.abs_diff(left) <= others, "{timed:?}, not {left} (others: {others})");
}
