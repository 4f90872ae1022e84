//! What listeners tell of themselves: what they drop, since when they serve, and how long nobody
//! did.

use synfin::{
    tcp::role::Role,
    trace::{
        event::{Closing, Input, Opening, Transition},
        filter::Filter,
        ids::Comm,
        scan::ScannedSocket,
        time::Nanos,
    },
};
use synfin_common::state::TcpState::*;

use crate::story::{ELSEWHERE, HERE, SECOND, Sock, Story};

/// What a scan finds of a listener that has dropped so many.
fn dropped(listener: Sock, drops: u32) -> ScannedSocket {
    ScannedSocket { drops, ..listener.met_in(Listen) }
}

impl Story {
    /// A listener closes that has dropped so many.
    fn stops(&mut self, listener: Sock, drops: u32) {
        let closing = Closing { bytes_acked: 0, bytes_received: 0, unread: drops, idle_ms: None };
        let end = self.transition(listener, (Listen, Close));
        self.tell(Input::Transition(Transition { closing: Some(closing), ..end }));
    }

    fn gap(&mut self, port: u16) -> Option<Nanos> {
        let row = self.row(Role::Server, port);
        row.stats.uptime.gap(self.tracker.now())
    }
}

#[test]
fn drops_are_counted_as_they_grow() {
    let listener = Sock::listener(1, 80);
    let mut story = Story::after_walks();
    story.listens(listener, "server");
    let mut seen = Vec::new();
    for drops in [0, 3, 3, 10] {
        story.scan(HERE, &[dropped(listener, drops)]);
        seen.push(story.row(Role::Server, 80).stats.counters.listener_drops);
    }
    story.stops(listener, 12);
    seen.push(story.row(Role::Server, 80).stats.counters.listener_drops);
    assert_eq!(seen, [0, 3, 0, 7, 2]);
}

#[test]
fn what_an_older_listener_has_dropped_before_is_not_counted() {
    let listener = Sock::listener(1, 80);
    let mut story = Story::new();
    story.scan(HERE, &[dropped(listener, 1_000_000)]);
    assert_eq!(story.row(Role::Server, 80).stats.counters.listener_drops, 0);
    story.scan(HERE, &[dropped(listener, 1_000_004)]);
    assert_eq!(story.row(Role::Server, 80).stats.counters.listener_drops, 4);
    story.stops(listener, 1_000_005);
    assert_eq!(story.row(Role::Server, 80).stats.counters.listener_drops, 1);
    // And one that closes before any scan has met it is not known at all.
    let mut story = Story::new();
    story.stops(listener, 1_000_000);
    assert!(story.rows().iter().all(|row| row.stats.counters.listener_drops == 0));
}

#[test]
fn the_kernels_count_of_drops_wraps_around() {
    let listener = Sock::listener(1, 80);
    let mut story = Story::new();
    story.scan(HERE, &[dropped(listener, u32::MAX - 1)]);
    story.scan(HERE, &[dropped(listener, 3)]);
    assert_eq!(story.row(Role::Server, 80).stats.counters.listener_drops, 5);
}

#[test]
fn what_a_socket_has_dropped_as_a_listener_before_is_not_counted_again() {
    let listener = Sock::listener(1, 80);
    let mut story = Story::after_walks();
    story.listens(listener, "server");
    story.stops(listener, 7);
    let again = story.transition(listener, (Close, Listen));
    let opening = Opening { cgroup: 0, accept_queue: (7, 0), comm: Comm::default() };
    story.tell(Input::Transition(Transition { opening: Some(opening), ..again }));
    story.scan(HERE, &[dropped(listener, 9)]);
    assert_eq!(story.row(Role::Server, 80).stats.counters.listener_drops, 9);
}

#[test]
fn drops_of_several_listeners_on_a_port_add_up() {
    let [one, other] = [1, 2].map(|id| Sock::listener(id, 80));
    let mut story = Story::after_walks();
    story.listens(one, "server");
    story.listens(other, "server");
    story.scan(HERE, &[dropped(one, 3), dropped(other, 4)]);
    story.stops(one, 5);
    assert_eq!(story.row(Role::Server, 80).stats.counters.listener_drops, 9);
}

#[test]
fn a_listener_at_a_lost_ones_address_has_not_dropped_billions() {
    // The end of the first one is lost, and the birth of the second.
    let listener = Sock::listener(1, 80);
    let mut story = Story::after_walks();
    story.listens(listener, "server");
    story.scan(HERE, &[dropped(listener, 100)]);
    story.scan(HERE, &[dropped(listener, 2)]);
    assert_eq!(story.row(Role::Server, 80).stats.counters.listener_drops, 102);
}

#[test]
fn a_walk_that_met_the_listener_before_does_not_tell_of_its_drops() {
    let listener = Sock::listener(1, 80);
    let mut story = Story::after_walks();
    story.listens(listener, "server");
    story.walk_begins(HERE);
    let met = ScannedSocket { time: story.now, ..dropped(listener, 7) };
    story.stops(listener, 7);
    // At the same address there is another one, before the scan's findings are given.
    story.listens(listener, "server");
    story.tell(Input::ScannedSocket(met));
    story.walk_ends(HERE, None);
    assert_eq!(story.row(Role::Server, 80).stats.counters.listener_drops, 7);
    story.wait(2);
    story.scan(HERE, &[dropped(listener, 0)]);
    assert_eq!(story.row(Role::Server, 80).stats.counters.listener_drops, 0);
}

#[test]
fn a_port_that_is_served_all_the_time_has_no_gap() {
    let [one, other] = [1, 2].map(|id| Sock::listener(id, 80));
    let mut story = Story::after_walks();
    story.listens(one, "server");
    let opened = story.now;
    story.wait(5);
    let row = story.row(Role::Server, 80);
    assert!(row.stats.uptime.opened.is_some_and(|time| time <= opened));
    assert_eq!((row.stats.uptime.closed, row.stats.uptime.gap(story.now)), (None, None));
    // One is replaced by another, which listens before the first one closes.
    story.listens(other, "server");
    story.stops(one, 0);
    story.wait(5);
    story.listens(one, "server");
    let row = story.row(Role::Server, 80);
    assert_eq!((row.stats.uptime.closed, row.stats.uptime.gap(story.now)), (None, None));
}

#[test]
fn a_restart_leaves_a_gap() {
    let listener = Sock::listener(1, 80);
    let mut story = Story::after_walks();
    story.listens(listener, "server");
    let closed = story.now;
    story.stops(listener, 0);
    story.now += 299_999_000;
    let opened = story.now;
    story.listens(listener, "server");
    story.wait(60);
    let listening = story.row(Role::Server, 80).stats.uptime;
    assert_eq!((listening.closed, listening.opened), (Some(closed), Some(opened)));
    assert_eq!(listening.gap(story.now), Some(300_000_000));
    // It counts for the last restart.
    story.stops(listener, 0);
    story.now += 99_999_000;
    story.listens(listener, "server");
    assert_eq!(story.gap(80), Some(100_000_000));
}

#[test]
fn so_long_as_nobody_serves_the_gap_grows() {
    for preexisting in [false, true] {
        let listener = Sock::listener(1, 80);
        let mut story = Story::new();
        if preexisting {
            story.scan(HERE, &[listener.met_in(Listen)]);
        } else {
            story.listens(listener, "server");
        }
        let closed = story.now;
        story.stops(listener, 0);
        story.wait(1);
        assert_eq!(story.gap(80), Some(story.tracker.now() - closed));
        // Somebody still asks for it.
        story.connection(
            Sock { remote: "198.51.100.7:1".parse().unwrap(), ..Sock::child(2, 80) },
            &[SynRecv],
        );
        story.wait(9);
        let gap = story.gap(80).expect("a gap");
        assert_eq!(gap, story.tracker.now() - closed);
        assert!(gap > 10 * SECOND);
    }
}

#[test]
fn a_port_that_is_down_in_one_namespace_is_not_up_because_of_another() {
    let here = Sock::listener(1, 80);
    let there = Sock { id: 2, netns: ELSEWHERE, ..here };
    // The other one was opened before, or after.
    for before in [false, true] {
        let mut story = Story::after_walks();
        if before {
            story.listens(there, "server");
        }
        story.listens(here, "server");
        let closed = story.now;
        story.stops(here, 0);
        story.wait(3);
        if !before {
            story.listens(there, "server");
        }
        let gap = story.gap(80).expect("a gap");
        let expected = story.tracker.now() - closed;
        assert_eq!(gap, expected, "opened before: {before}");
    }
}

#[test]
fn of_several_that_are_down_the_longest_gap_is_shown() {
    let here = Sock::listener(1, 80);
    let there = Sock { id: 2, netns: ELSEWHERE, ..here };
    for first in [here, there] {
        let mut story = Story::after_walks();
        story.listens(here, "server");
        story.listens(there, "server");
        let closed = story.now;
        story.stops(first, 0);
        story.wait(3);
        story.stops(if first.id == here.id { there } else { here }, 0);
        story.wait(1);
        assert_eq!(story.gap(80), Some(story.tracker.now() - closed));
    }
}

#[test]
fn a_listener_whose_opening_was_lost_ends_a_gap_of_unknown_length() {
    let [first, second, third] = [1, 2, 3].map(|id| Sock::listener(id, 80));
    let mut story = Story::after_walks();
    story.listens(first, "server");
    story.stops(first, 0);
    story.wait(3);
    story.scan(HERE, &[second.met_in(Listen)]);
    story.wait(3);
    assert_eq!(story.gap(80), None);
    story.listens(third, "server");
    assert_eq!(story.gap(80), None);
}

#[test]
fn what_another_process_listener_drops_is_left_out() {
    let [ours, other] = [1, 2].map(|id| Sock::listener(id, 80));
    let mut story = Story::filtered(Filter { pids: vec![700], ..Filter::default() });
    story.listens(ours, "server");
    let opening = Opening { cgroup: 0, accept_queue: (0, 0), comm: b"other".into() };
    let listens = story.transition(other, (Close, Listen));
    let listens = Transition { pid: Some(701), opening: Some(opening), ..listens };
    story.tell(Input::Transition(listens));
    story.scan(HERE, &[dropped(ours, 3), dropped(other, 40)]);
    story.stops(other, 80);
    let row = story.row(Role::Server, 80);
    assert_eq!((row.stats.counters.listener_drops, row.stats.uptime.closed), (3, None));
}

#[test]
fn a_listener_that_a_filter_excludes_is_not_shown() {
    let port =
        |port: &str| Filter { service_ports: vec![port.parse().unwrap()], ..Filter::default() };
    let namespace = Filter { namespaces: vec![ELSEWHERE], ..Filter::default() };
    for (filter, is_shown) in [(port("443"), false), (namespace, false), (port("80"), true)] {
        let listener = Sock::listener(1, 80);
        let mut story = Story::filtered(filter.clone());
        story.listens(listener, "server");
        assert_eq!(!story.rows().is_empty(), is_shown, "{filter:?}");
        story.scan(HERE, &[dropped(listener, 5)]);
        story.stops(listener, 9);
        let rows = story.rows();
        let drops: u64 = rows.iter().map(|row| row.stats.counters.listener_drops).sum();
        assert_eq!(
            (!rows.is_empty(), drops),
            (is_shown, if is_shown { 9 } else { 0 }),
            "{filter:?}"
        );
    }
}
