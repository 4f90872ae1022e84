//! Listeners: their drops, how long they have been listening, and gaps without a listener.

use synfin::{
    tcp::role::Role,
    trace::{
        event::{Input, Opening},
        filter::Filter,
        scan::ScannedSocket,
        time::Nanos,
    },
    tracker::Common,
};
use synfin_common::state::TcpState::*;
use synfin_testkit::{ELSEWHERE, HERE, SECOND, Socket, TracedKernel};

/// A scan's result for a listener that has dropped this number of connections.
fn dropped(listener: Socket, drops: u32) -> ScannedSocket {
    ScannedSocket { drops, ..listener.scanned(Listen) }
}

/// How long no listener was on a port.
fn gap(kernel: &mut TracedKernel, port: u16) -> Option<Nanos> {
    kernel.row(Role::Server, port).stats.uptime.gap(kernel.tracker.now())
}

#[test]
fn listener_drops_are_counted_as_they_grow() {
    let listener = Socket::listener(1, 80);
    let mut kernel = TracedKernel::scanned();
    kernel.listens(listener, "server");
    let mut seen = Vec::new();
    for drops in [0, 3, 3, 10] {
        kernel.scan(HERE, &[dropped(listener, drops)]);
        seen.push(kernel.row(Role::Server, 80).stats.counters.listener_drops);
    }
    kernel.stops_listening(listener, 12);
    seen.push(kernel.row(Role::Server, 80).stats.counters.listener_drops);
    assert_eq!(seen, [0, 3, 0, 7, 2]);
}

#[test]
fn drops_before_the_trace_are_not_counted() {
    let listener = Socket::listener(1, 80);
    let mut kernel = TracedKernel::traced();
    kernel.scan(HERE, &[dropped(listener, 1_000_000)]);
    assert_eq!(kernel.row(Role::Server, 80).stats.counters.listener_drops, 0);
    kernel.scan(HERE, &[dropped(listener, 1_000_004)]);
    assert_eq!(kernel.row(Role::Server, 80).stats.counters.listener_drops, 4);
    kernel.stops_listening(listener, 1_000_005);
    assert_eq!(kernel.row(Role::Server, 80).stats.counters.listener_drops, 1);
    // A listener that closes before any scan has found it is not counted at all.
    let mut kernel = TracedKernel::traced();
    kernel.stops_listening(listener, 1_000_000);
    assert!(kernel.rows().iter().all(|row| row.stats.counters.listener_drops == 0));
}

#[test]
fn the_drop_counter_of_the_kernel_may_wrap() {
    let listener = Socket::listener(1, 80);
    let mut kernel = TracedKernel::traced();
    kernel.scan(HERE, &[dropped(listener, u32::MAX - 1)]);
    kernel.scan(HERE, &[dropped(listener, 3)]);
    assert_eq!(kernel.row(Role::Server, 80).stats.counters.listener_drops, 5);
}

#[test]
fn drops_before_a_second_listen_are_not_counted_again() {
    let listener = Socket::listener(1, 80);
    let mut kernel = TracedKernel::scanned();
    kernel.listens(listener, "server");
    kernel.stops_listening(listener, 7);
    kernel.moves_with(listener, (Close, Listen), |again| {
        again.opening = Some(Opening { drops: 7, ..Opening::default() });
    });
    kernel.scan(HERE, &[dropped(listener, 9)]);
    assert_eq!(kernel.row(Role::Server, 80).stats.counters.listener_drops, 9);
}

#[test]
fn drops_of_several_listeners_on_a_port_add_up() {
    let [one, other] = [1, 2].map(|id| Socket::listener(id, 80));
    let mut kernel = TracedKernel::scanned();
    kernel.listens(one, "server");
    kernel.listens(other, "server");
    kernel.scan(HERE, &[dropped(one, 3), dropped(other, 4)]);
    kernel.stops_listening(one, 5);
    assert_eq!(kernel.row(Role::Server, 80).stats.counters.listener_drops, 9);
}

#[test]
fn a_smaller_drop_count_is_another_listener_not_a_wrap() {
    // The last record of the first one and the first record of the second one are lost.
    let listener = Socket::listener(1, 80);
    let mut kernel = TracedKernel::scanned();
    kernel.listens(listener, "server");
    kernel.scan(HERE, &[dropped(listener, 100)]);
    kernel.scan(HERE, &[dropped(listener, 2)]);
    assert_eq!(kernel.row(Role::Server, 80).stats.counters.listener_drops, 102);
}

#[test]
fn a_scan_from_before_a_restart_does_not_count_drops_again() {
    let listener = Socket::listener(1, 80);
    let mut kernel = TracedKernel::scanned();
    kernel.listens(listener, "server");
    kernel.scan_begins(HERE);
    let found = ScannedSocket { time: kernel.now, ..dropped(listener, 7) };
    kernel.stops_listening(listener, 7);
    // Another listener gets the same address before the results of the scan are read.
    kernel.listens(listener, "server");
    kernel.report(Input::ScannedSocket(found));
    kernel.scan_ends(HERE);
    assert_eq!(kernel.row(Role::Server, 80).stats.counters.listener_drops, 7);
    kernel.wait(2);
    kernel.scan(HERE, &[dropped(listener, 0)]);
    assert_eq!(kernel.row(Role::Server, 80).stats.counters.listener_drops, 0);
}

#[test]
fn a_port_with_overlapping_listeners_has_no_gap() {
    let [one, other] = [1, 2].map(|id| Socket::listener(id, 80));
    let mut kernel = TracedKernel::scanned();
    kernel.listens(one, "server");
    let opened = kernel.now;
    kernel.wait(5);
    let row = kernel.row(Role::Server, 80);
    assert!(row.stats.uptime.opened.is_some_and(|time| time <= opened));
    assert_eq!((row.stats.uptime.closed, row.stats.uptime.gap(kernel.now)), (None, None));
    // Another listener opens before the first one closes.
    kernel.listens(other, "server");
    kernel.stops_listening(one, 0);
    kernel.wait(5);
    kernel.listens(one, "server");
    let row = kernel.row(Role::Server, 80);
    assert_eq!((row.stats.uptime.closed, row.stats.uptime.gap(kernel.now)), (None, None));
}

#[test]
fn a_restart_leaves_a_gap() {
    let listener = Socket::listener(1, 80);
    let mut kernel = TracedKernel::scanned();
    kernel.listens(listener, "server");
    let closed = kernel.now;
    kernel.stops_listening(listener, 0);
    kernel.now += 299_999_000;
    let opened = kernel.now;
    kernel.listens(listener, "server");
    kernel.wait(60);
    let uptime = kernel.row(Role::Server, 80).stats.uptime;
    assert_eq!((uptime.closed, uptime.opened), (Some(closed), Some(opened)));
    assert_eq!(uptime.gap(kernel.now), Some(300_000_000));
    // Only the last restart counts.
    kernel.stops_listening(listener, 0);
    kernel.now += 99_999_000;
    kernel.listens(listener, "server");
    assert_eq!(gap(&mut kernel, 80), Some(100_000_000));
}

#[test]
fn a_gap_grows_until_a_listener_opens() {
    for preexisting in [false, true] {
        let listener = Socket::listener(1, 80);
        let mut kernel = TracedKernel::traced();
        if preexisting {
            kernel.scan(HERE, &[listener.scanned(Listen)]);
        } else {
            kernel.listens(listener, "server");
        }
        let closed = kernel.now;
        kernel.stops_listening(listener, 0);
        kernel.wait(1);
        assert_eq!(gap(&mut kernel, 80), Some(kernel.tracker.now() - closed));
        // Clients still connect to the port.
        kernel.connection(
            Socket { remote: "198.51.100.7:1".parse().unwrap(), ..Socket::child(2, 80) },
            &[SynRecv],
        );
        kernel.wait(9);
        let gap = gap(&mut kernel, 80).expect("a gap");
        assert_eq!(gap, kernel.tracker.now() - closed);
        assert!(gap > 10 * SECOND);
    }
}

#[test]
fn a_listener_in_another_namespace_does_not_end_a_gap() {
    let here = Socket::listener(1, 80);
    let there = Socket { id: 2, netns: ELSEWHERE, ..here };
    // The other one was opened before or after the gap began.
    for before in [false, true] {
        let mut kernel = TracedKernel::scanned();
        if before {
            kernel.listens(there, "server");
        }
        kernel.listens(here, "server");
        let closed = kernel.now;
        kernel.stops_listening(here, 0);
        kernel.wait(3);
        if !before {
            kernel.listens(there, "server");
        }
        let gap = gap(&mut kernel, 80).expect("a gap");
        let expected = kernel.tracker.now() - closed;
        assert_eq!(gap, expected, "opened before: {before}");
    }
}

#[test]
fn the_longest_of_several_gaps_is_shown() {
    let here = Socket::listener(1, 80);
    let there = Socket { id: 2, netns: ELSEWHERE, ..here };
    for first in [here, there] {
        let mut kernel = TracedKernel::scanned();
        kernel.listens(here, "server");
        kernel.listens(there, "server");
        let closed = kernel.now;
        kernel.stops_listening(first, 0);
        kernel.wait(3);
        kernel.stops_listening(if first.id == here.id { there } else { here }, 0);
        kernel.wait(1);
        assert_eq!(gap(&mut kernel, 80), Some(kernel.tracker.now() - closed));
    }
}

#[test]
fn a_listener_found_by_a_scan_ends_a_gap_of_unknown_length() {
    let [first, second, third] = [1, 2, 3].map(|id| Socket::listener(id, 80));
    let mut kernel = TracedKernel::scanned();
    kernel.listens(first, "server");
    kernel.stops_listening(first, 0);
    kernel.wait(3);
    kernel.scan(HERE, &[second.scanned(Listen)]);
    kernel.wait(3);
    assert_eq!(gap(&mut kernel, 80), None);
    kernel.listens(third, "server");
    assert_eq!(gap(&mut kernel, 80), None);
}

#[test]
fn drops_of_filtered_listeners_are_not_counted() {
    let [ours, other] = [1, 2].map(|id| Socket::listener(id, 80));
    let mut kernel = TracedKernel::filtered(Filter { pids: vec![700], ..Filter::default() });
    kernel.listens(ours, "server");
    kernel.opens(other, (Close, Listen), Some((701, b"other")));
    kernel.scan(HERE, &[dropped(ours, 3), dropped(other, 40)]);
    kernel.stops_listening(other, 80);
    let row = kernel.row(Role::Server, 80);
    assert_eq!((row.stats.counters.listener_drops, row.stats.uptime.closed), (3, None));
}

#[test]
fn a_filtered_listener_is_not_shown() {
    let port =
        |port: &str| Filter { service_ports: vec![port.parse().unwrap()], ..Filter::default() };
    let namespace = Filter { namespaces: vec![ELSEWHERE], ..Filter::default() };
    for (filter, is_shown) in [(port("443"), false), (namespace, false), (port("80"), true)] {
        let listener = Socket::listener(1, 80);
        let mut kernel = TracedKernel::filtered(filter.clone());
        kernel.listens(listener, "server");
        assert_eq!(!kernel.rows().is_empty(), is_shown, "{filter:?}");
        kernel.scan(HERE, &[dropped(listener, 5)]);
        kernel.stops_listening(listener, 9);
        let rows = kernel.rows();
        let drops: u64 = rows.iter().map(|row| row.stats.counters.listener_drops).sum();
        assert_eq!(
            (!rows.is_empty(), drops),
            (is_shown, if is_shown { 9 } else { 0 }),
            "{filter:?}"
        );
    }
}

#[test]
fn a_listener_without_bind_shows_its_port_later() {
    for by_child in [true, false] {
        let (unbound, listener) = (Socket::listener(1, 0), Socket::listener(1, 8080));
        let mut kernel = TracedKernel::scanned();
        kernel.listens(unbound, "server");
        assert!(kernel.rows().is_empty());
        if by_child {
            kernel.connection(Socket::child(2, 8080), &[SynRecv, Established]);
        }
        kernel.scan(HERE, &[listener.scanned(Listen)]);
        let row = kernel.row(Role::Server, 8080);
        assert_eq!(row.stats.scanned.listeners, 1, "{by_child}");
        assert_eq!(row.stats.counters.established, u64::from(by_child));
        assert!(row.stats.uptime.gap(kernel.tracker.now()).is_none());
        kernel.stops_listening(listener, 0);
        kernel.scan(HERE, &[]);
        assert!(gap(&mut kernel, 8080).is_some(), "{by_child}");
    }
}

#[test]
fn a_port_is_not_learnt_from_a_child_of_another_listener() {
    let mut kernel = TracedKernel::scanned();
    kernel.listens(Socket::listener(1, 0), "one");
    kernel.listens(Socket::listener(2, 0), "other");
    kernel.connection(Socket::child(3, 8080), &[SynRecv, Established]);
    assert_eq!(kernel.row(Role::Server, 8080).identity.owner, Common::Unknown);
}
