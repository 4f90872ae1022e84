//! Events that are counted per port in the kernel, because remote hosts control their rate.

use std::net::SocketAddr;

use synfin::{
    output::{
        column::Value,
        port_columns::COLUMNS,
        port_row::{Interval, PortRow},
    },
    tcp::{
        coverage::{Coverage, OptionalHook},
        group_by::By,
        role::Role,
    },
    trace::{
        counters::PortCount,
        filter::Filter,
        ids::NetnsId,
        scan::{EphemeralPorts, TimeWaitReuse},
        time::ClockAnchor,
    },
    tracker::{Common, Counters, Limits, RowSnapshot},
};
use synfin_common::{
    event::Flags,
    port_count::{PortEvent, SynQueueEvent},
    reset::ResetReason::{self, *},
    state::TcpState::*,
};
use synfin_testkit::{ELSEWHERE, HERE, SECOND, Socket, TracedKernel};

fn resets(netns: NetnsId, port: u16, reason: ResetReason, count: u64) -> PortCount {
    PortCount { netns, port, counted: PortEvent::Reset(reason).number(), count }
}

fn synacks(port: u16, count: u64) -> PortCount {
    PortCount { netns: HERE, port, counted: PortEvent::SynackRetransmit.number(), count }
}

fn in_syn_queue(port: u16, what: SynQueueEvent, count: u64) -> PortCount {
    PortCount { netns: HERE, port, counted: PortEvent::SynQueue(what).number(), count }
}

/// A column of a server's port, as it is printed.
fn shown(kernel: &mut TracedKernel, port: u16, name: &str, coverage: Coverage) -> Value {
    let row = kernel.row(Role::Server, port);
    let interval = Interval {
        end: kernel.now,
        seconds: 1.0,
        has_rates: true,
        clock: ClockAnchor::default(),
        coverage,
    };
    let row = PortRow::of(row, interval);
    let column = COLUMNS.iter().find(|column| column.info.key == name);
    column.unwrap_or_else(|| panic!("no column {name}")).value(&row)
}

/// The sum of a count over all rows, and the ports of the rows in which it is not 0; the other row
/// has no port.
fn sum(kernel: &mut TracedKernel, column: impl Fn(&Counters) -> u64) -> (u64, Vec<Option<u16>>) {
    let rows = kernel.rows();
    let rows = rows
        .iter()
        .map(|row| (column(&row.stats.counters), &row.identity.port))
        .filter(|row| row.0 > 0);
    let port = |port: &Common<u16>| match port {
        Common::One(port) => Some(*port),
        Common::Unknown => None,
        Common::Several(_) => panic!("a row of several ports"),
    };
    rows.fold((0, Vec::new()), |(sum, mut ports), (count, of)| {
        ports.push(port(of));
        (sum + count, ports)
    })
}

#[test]
fn a_port_with_repeated_refusals_gets_a_row() {
    let mut kernel = TracedKernel::scanned();
    kernel.tick_with(&[resets(HERE, 8080, NoSocket, 2)]);
    assert_eq!(sum(&mut kernel, Counters::resets_total), (2, vec![None]));
    kernel.tick_with(&[resets(HERE, 8080, NoSocket, 1)]);
    assert_eq!(sum(&mut kernel, Counters::resets_total), (1, vec![Some(8080)]));
    kernel.tick_with(&[resets(HERE, 8080, TimeWaitSocket, 1)]);
    assert_eq!(sum(&mut kernel, Counters::resets_total), (1, vec![Some(8080)]));
    // In another namespace it is another port.
    kernel.tick_with(&[resets(ELSEWHERE, 8080, NoSocket, 2)]);
    assert_eq!(sum(&mut kernel, Counters::resets_total), (2, vec![None]));
}

#[test]
fn the_row_of_a_closed_port_has_all_refusals_of_the_interval() {
    let mut kernel = TracedKernel::scanned();
    kernel.tick_with(&[resets(HERE, 8081, NoSocket, 1), resets(HERE, 8080, NoSocket, 1)]);
    kernel.tick_with(&[resets(HERE, 8080, InvalidSyn, 1)]);
    kernel.tick_with(&[resets(HERE, 8080, NoSocket, 2)]);
    let rows = kernel.rows();
    let of =
        |row: &RowSnapshot| [NoSocket, InvalidSyn].map(|reason| row.stats.counters.resets(reason));
    let is_port = |row: &RowSnapshot| matches!(row.identity.port, Common::One(8080));
    let counted: Vec<_> = rows.iter().map(|row| (is_port(row), of(row))).collect();
    assert_eq!(counted, [(false, [1, 0]), (true, [3, 1])]);
}

#[test]
fn resets_are_counted_by_reason() {
    let mut kernel = TracedKernel::scanned();
    kernel.tick_with(&[resets(HERE, 80, NoSocket, 7), resets(HERE, 80, TimeWaitSocket, 2)]);
    kernel.tick_with(&[resets(HERE, 80, NoSocket, 3)]);
    let row = kernel.row(Role::Server, 80);
    let counted =
        [NoSocket, TimeWaitSocket, InvalidSyn].map(|reason| row.stats.counters.resets(reason));
    assert_eq!((counted, row.stats.counters.resets_total()), ([10, 2, 0], 12));
}

#[test]
fn a_port_scan_is_counted_in_the_other_row() {
    const PORTS: u16 = 10_000;
    let mut kernel = TracedKernel::scanned();
    for first in (1..PORTS).step_by(250) {
        let batch: Vec<_> =
            (first..first + 250).map(|port| resets(HERE, port, NoSocket, 1)).collect();
        kernel.tick_with(&batch);
    }
    // Also counts that did not fit into the kernel's map.
    kernel.tick_with(&[resets(0, 0, NoSocket, 55)]);
    assert_eq!(sum(&mut kernel, Counters::resets_total), (u64::from(PORTS) + 55, vec![None]));
    // A service that is down keeps its own row.
    for _ in 0..5 {
        kernel.tick_with(&[resets(HERE, 8080, NoSocket, 1)]);
    }
    let (count, ports) = sum(&mut kernel, Counters::resets_total);
    assert_eq!((count, ports.contains(&Some(8080))), (5, true));
}

#[test]
fn a_port_scan_evicts_rare_refusals() {
    let mut kernel = TracedKernel::scanned();
    kernel.tick_with(&[resets(HERE, 8080, NoSocket, 2)]);
    let batch: Vec<_> = (10_000..15_000).map(|port| resets(HERE, port, NoSocket, 1)).collect();
    kernel.tick_with(&batch);
    kernel.tick_with(&[resets(HERE, 8080, NoSocket, 1)]);
    assert_eq!(sum(&mut kernel, Counters::resets_total), (5_003, vec![None]));
}

/// A kernel whose ephemeral ports are known.
fn with_ephemeral_ports() -> TracedKernel {
    let mut kernel = TracedKernel::traced();
    kernel.ephemeral_ports = Some(EphemeralPorts {
        first: 32_768,
        last: 60_999,
        reserved: 0,
        reuse: TimeWaitReuse::Never,
        reuse_after_ms: 1000,
    });
    kernel.scan(HERE, &[]);
    kernel
}

/// One reset from a port in each of so many seconds.
fn refuse_each_second(kernel: &mut TracedKernel, port: u16, seconds: u64) {
    for _ in 0..seconds {
        kernel.now += SECOND;
        kernel.tick_with(&[resets(HERE, port, NoSocket, 1)]);
    }
}

#[test]
fn a_service_on_an_ephemeral_port_gets_a_row_if_its_clients_go_on() {
    let mut kernel = with_ephemeral_ports();
    refuse_each_second(&mut kernel, 50_051, 2);
    assert_eq!(sum(&mut kernel, Counters::resets_total), (2, vec![None]));
    refuse_each_second(&mut kernel, 50_051, 1);
    assert_eq!(sum(&mut kernel, Counters::resets_total), (1, vec![Some(50_051)]));
    refuse_each_second(&mut kernel, 50_052, 5);
    // All resets of the interval move to the row.
    assert_eq!(sum(&mut kernel, Counters::resets_total), (5, vec![Some(50_052)]));
}

#[test]
fn late_segments_of_one_connection_are_no_service() {
    let mut kernel = with_ephemeral_ports();
    // All at once, in a few ticks: the reset of the first ends the connection at the peer.
    for _ in 0..3 {
        kernel.now += SECOND / 4;
        kernel.tick_with(&[resets(HERE, 50_051, NoSocket, 20)]);
    }
    assert_eq!(sum(&mut kernel, Counters::resets_total), (60, vec![None]));
}

#[test]
fn late_segments_to_a_clients_port_are_no_service() {
    let mut kernel = with_ephemeral_ports();
    let client = Socket::client(1, 50_051);
    kernel.connection(client, &[SynSent, Established]);
    kernel.closes(client, Established, Flags::HAS_SOCKET, 104);
    // The peer does not get the resets, and retransmits.
    refuse_each_second(&mut kernel, 50_051, 300);
    assert_eq!(sum(&mut kernel, Counters::resets_total), (300, vec![None]));
    // After an hour it has given up.
    kernel.now += 1_800 * SECOND;
    kernel.closes_simultaneously(Socket::client(2, 50_052));
    kernel.now += 1_800 * SECOND;
    kernel.closes_simultaneously(Socket::client(3, 50_053));
    refuse_each_second(&mut kernel, 50_051, 3);
    assert_eq!(sum(&mut kernel, Counters::resets_total), (3, vec![Some(50_051)]));
}

#[test]
fn a_client_on_this_host_proves_an_attempt_to_connect() {
    let mut kernel = with_ephemeral_ports();
    // The port was once a client's.
    kernel.closes_simultaneously(Socket::client(1, 50_051));
    for (id, address) in [(2, [127, 0, 0, 1]), (3, [192, 0, 2, 1])] {
        let local = SocketAddr::from((address, 40_000));
        let remote = SocketAddr::from((address, 50_049 + id as u16));
        let client = Socket { local, remote, ..Socket::client(id, 40_000) };
        kernel.opens(client, (Close, SynSent), None);
        kernel.receives_reset(client);
        kernel.closes(client, SynSent, Flags::HAS_SOCKET, 111);
    }
    kernel.tick_with(&[50_051, 50_052].map(|port| resets(HERE, port, NoSocket, 3)));
    let expected = (6, vec![Some(50_051), Some(50_052)]);
    assert_eq!(sum(&mut kernel, Counters::resets_total), expected);
}

#[test]
fn resets_on_ephemeral_ports_are_counted_in_the_other_row() {
    let mut kernel = with_ephemeral_ports();
    kernel.tick_with(&[resets(HERE, 32_768, NoSocket, 9), resets(HERE, 60_999, NoSocket, 9)]);
    assert_eq!(sum(&mut kernel, Counters::resets_total), (18, vec![None]));
    kernel.tick_with(&[resets(HERE, 32_767, NoSocket, 9), resets(HERE, 61_000, NoSocket, 9)]);
    assert_eq!(sum(&mut kernel, Counters::resets_total), (18, vec![Some(32_767), Some(61_000)]));
    // A port with a listener gets its own row.
    kernel.listens(Socket::listener(1, 40_000), "server");
    kernel.tick_with(&[resets(HERE, 40_000, InvalidSyn, 1)]);
    assert_eq!(sum(&mut kernel, Counters::resets_total), (1, vec![Some(40_000)]));
}

#[test]
fn synack_retransmits_are_counted_at_their_listener() {
    let mut kernel = TracedKernel::scanned();
    kernel.listens(Socket::listener(1, 80), "server");
    kernel.tick_with(&[synacks(80, 3), synacks(81, 1)]);
    let column = |counters: &Counters| counters.synack_retransmits;
    assert_eq!(sum(&mut kernel, column), (4, vec![Some(80), Some(81)]));
    assert_eq!(sum(&mut kernel, column), (0, vec![]), "counted in the last interval");
}

#[test]
fn port_counts_belong_to_the_server_row() {
    let mut kernel = TracedKernel::scanned();
    kernel.closes_simultaneously(Socket::client(1, 40_000));
    kernel.tick_with(&[resets(HERE, 443, NoSocket, 5)]);
    assert_eq!(kernel.row(Role::Server, 443).stats.counters.resets_total(), 5);
    assert_eq!(kernel.row(Role::Client, 443).stats.counters.resets_total(), 0);
}

#[test]
fn without_room_for_rows_port_counts_still_add_up() {
    let mut kernel = TracedKernel::with_limits(Limits { connections: 10, rows: 4 });
    let batch: Vec<_> = (1..=100).map(|port| resets(HERE, port, NoSocket, 10)).collect();
    kernel.tick_with(&batch);
    let (count, ports) = sum(&mut kernel, Counters::resets_total);
    assert_eq!(count, 1_000);
    assert!(ports.len() <= 5, "{ports:?}");
}

#[test]
fn filters_apply_to_port_counts() {
    let port = Filter { service_ports: vec!["80".parse().unwrap()], ..Filter::default() };
    let netns = Filter { namespaces: vec![HERE], ..Filter::default() };
    let client = Filter { role: Some(Role::Client), ..Filter::default() };
    let remote = Filter { remote: vec!["198.51.100.0/24".parse().unwrap()], ..Filter::default() };
    let counts = [
        resets(HERE, 80, NoSocket, 10),
        resets(HERE, 81, NoSocket, 20),
        resets(ELSEWHERE, 80, NoSocket, 40),
        resets(0, 0, NoSocket, 80),
        synacks(80, 100),
        synacks(81, 200),
    ];
    // The peer of these events is unknown.
    for (filter, expected) in [(port, 150), (netns, 330), (client, 0), (remote, 0)] {
        let mut kernel = TracedKernel::filtered(filter.clone());
        kernel.tick_with(&counts);
        let all = |counters: &Counters| counters.resets_total() + counters.synack_retransmits;
        assert_eq!(sum(&mut kernel, all).0, expected, "{filter:?}");
    }
}

#[test]
fn unknown_port_counts_are_ignored() {
    let mut kernel = TracedKernel::scanned();
    let unknown = PortCount { netns: HERE, port: 80, counted: PortEvent::COUNT as u16, count: 5 };
    kernel.tick_with(&[unknown, PortCount { counted: u16::MAX, ..unknown }]);
    assert!(kernel.tracker.take_snapshot().rows(By::Port).is_empty());
}

#[test]
fn port_counts_saturate() {
    let mut kernel = TracedKernel::scanned();
    for _ in 0..3 {
        kernel.tick_with(&[resets(HERE, 80, NoSocket, u64::MAX), synacks(80, u64::MAX)]);
    }
    let row = kernel.row(Role::Server, 80);
    assert_eq!(row.stats.counters.resets_total(), u64::MAX);
    assert_eq!(row.stats.counters.synack_retransmits, u64::MAX);
}

#[test]
fn a_port_that_receives_only_syns_has_a_row() {
    for what in SynQueueEvent::ALL {
        let mut kernel = TracedKernel::scanned();
        kernel.tick_with(&[in_syn_queue(80, what, 3), in_syn_queue(81, what, 1)]);
        let column = |counters: &Counters| counters.syn_queue(what);
        assert_eq!(sum(&mut kernel, column), (4, vec![Some(80), Some(81)]), "{what:?}");
        assert_eq!(sum(&mut kernel, column), (0, vec![]), "counted in the last interval");
    }
}

#[test]
fn attempts_of_a_server_are_handshakes_that_reached_it() {
    use SynQueueEvent::{Completed, Dropped, Entered, Expired};
    let all = Coverage::from_names(&OptionalHook::ALL.map(OptionalHook::name));
    let counts = [(Entered, 5), (Completed, 2), (Dropped, 1), (Expired, 1)];
    let mut kernel = TracedKernel::scanned().with_all_hooks();
    kernel.listens(Socket::listener(1, 80), "server");
    // Two were established; a third had no entry in the SYN queue (a SYN cookie).
    for id in 2..5 {
        kernel.connection(Socket::child(id, 80), &[SynRecv, Established]);
    }
    kernel.tick_with(&counts.map(|(what, count)| in_syn_queue(80, what, count)));
    assert_eq!(shown(&mut kernel, 80, "attempts", all), Value::Int(6));
    // The last one is established in the next interval; it was counted before.
    kernel.connection(Socket::child(5, 80), &[SynRecv, Established]);
    kernel.tick_with(&[in_syn_queue(80, Completed, 1)]);
    assert_eq!(shown(&mut kernel, 80, "attempts", all), Value::Int(0));
}

#[test]
fn without_the_syn_queue_hook_its_columns_are_unknown() {
    let all = Coverage::from_names(&OptionalHook::ALL.map(OptionalHook::name));
    let columns = ["attempts", "syn_queue.entered", "syn_queue.completed", "syn_queue.dropped"];
    for column in columns.into_iter().chain(["syn_queue.expired"]) {
        for (coverage, is_known) in [(all, true), (Coverage::default(), false)] {
            let mut kernel = TracedKernel::scanned();
            kernel.listens(Socket::listener(1, 80), "server");
            kernel.connection(Socket::child(2, 80), &[SynRecv, Established]);
            let value = shown(&mut kernel, 80, column, coverage);
            assert_eq!(value != Value::Unknown, is_known, "{column}");
        }
    }
}
