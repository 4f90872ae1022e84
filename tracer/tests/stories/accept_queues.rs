//! How many wait for accept(), as their successors find it.

use synfin::{
    tcp::role::Role,
    trace::{
        event::{Input, Opening, Transition},
        ids::Comm,
        scan::ScannedSocket,
    },
};
use synfin_common::state::TcpState::*;

use crate::story::{HERE, Sock, Story, at};

impl Story {
    /// A child is born while so many wait, of at most so many.
    fn child_finds(&mut self, id: u64, port: u16, accept_queue: (u32, u32)) {
        let child = Sock::child(id, port);
        let opening = Opening { cgroup: 0, accept_queue, comm: Comm::default() };
        let birth = self.transition(child, (Listen, SynRecv));
        self.tell(Input::Transition(Transition { opening: Some(opening), ..birth }));
        self.goes(child, (SynRecv, Established));
    }
}

#[test]
fn the_depth_is_what_new_connections_find() {
    let listener = Sock::listener(1, 80);
    let mut story = Story::after_walks();
    story.listens(listener, "server");
    for depth in 0..6 {
        story.child_finds(10 + u64::from(depth), 80, (depth, 20));
    }
    story.scan(HERE, &[ScannedSocket { accept_queue: (6, 20), ..listener.met_in(Listen) }]);
    let row = story.row(Role::Server, 80);
    let depth = &row.stats.counters.accept_depth;
    assert_eq!(depth.count(), 6);
    assert_eq!([depth.quantile(0.5), depth.quantile(0.99)], [Some(2), Some(5)]);
    assert_eq!(
        (row.stats.accept_peak, row.stats.scanned.accept_queue, row.stats.scanned.accept_limit),
        (6, 6, 20)
    );
}

#[test]
fn a_burst_between_walks_is_in_the_peak() {
    let listener = Sock::listener(1, 80);
    let mut story = Story::after_walks();
    story.listens(listener, "server");
    story.child_finds(2, 80, (17, 20));
    story.scan(HERE, &[ScannedSocket { accept_queue: (0, 20), ..listener.met_in(Listen) }]);
    assert_eq!(story.row(Role::Server, 80).stats.accept_peak, 17);
    // It belongs to its interval.
    let row = story.row(Role::Server, 80);
    assert_eq!((row.stats.accept_peak, row.stats.counters.accept_depth.count()), (0, 0));
}

#[test]
fn of_several_limits_the_least_counts() {
    let [one, other, idle] = [1, 2, 3].map(|id| Sock::listener(id, 80));
    let mut story = Story::after_walks();
    let met = |sock: Sock, accept_queue| ScannedSocket { accept_queue, ..sock.met_in(Listen) };
    story.scan(HERE, &[met(one, (3, 128)), met(other, (2, 20)), met(idle, (0, 4096))]);
    let row = story.row(Role::Server, 80);
    assert_eq!((row.stats.scanned.accept_queue, row.stats.scanned.accept_limit), (5, 20));
    assert_eq!(row.stats.accept_peak, 3, "of one listener");
}

#[test]
fn where_no_walk_has_met_a_listener_its_children_tell_the_limit() {
    let listener = Sock::listener(1, 80);
    let mut story = Story::after_walks();
    story.listens(listener, "server");
    story.child_finds(2, 80, (0, 128));
    story.child_finds(3, 80, (1, 20));
    assert_eq!(story.row(Role::Server, 80).stats.scanned.accept_limit, 20);
    // It belongs to its interval.
    assert_eq!(story.row(Role::Server, 80).stats.scanned.accept_limit, 0);
}

/// How many waited for accept(), and the longest.
fn waits(story: &mut Story) -> (u64, Option<u64>) {
    let waits = &story.row(Role::Server, 80).stats.counters.accept_wait;
    (waits.count(), waits.max())
}

#[test]
fn a_connection_waits_from_its_birth_until_accept_takes_it() {
    let child = Sock::child(2, 80);
    let mut story = Story::after_walks().exact();
    story.listens(Sock::listener(1, 80), "server");
    story.child_finds(2, 80, (0, 20));
    story.wait_ms(250);
    story.is_accepted(child);
    // Two things happened, and the clock was told.
    assert_eq!(waits(&mut story), (1, Some(250_003)));
    story.is_accepted(child);
    assert_eq!(waits(&mut story), (0, None), "it is accepted once");
    // Closed by its peer before, it waits all the same.
    let second = Sock { remote: at("198.51.100.7:50001"), ..Sock::child(3, 80) };
    story.connection(second, &[SynRecv, Established, CloseWait]);
    story.is_accepted(second);
    assert_eq!(waits(&mut story), (1, Some(3)));
}

#[test]
fn how_long_an_older_one_has_waited_is_not_known() {
    let (old, lost) = (Sock::child(2, 80), Sock::child(3, 80));
    let mut story = Story::new().exact();
    story.scan(HERE, &[Sock::listener(1, 80).met_in(Listen), old.met_in(Established)]);
    story.is_accepted(old);
    // Of this one the birth was lost.
    story.goes(lost, (Established, CloseWait));
    story.is_accepted(lost);
    // And this one is gone.
    story.is_accepted(Sock::child(4, 80));
    assert_eq!(waits(&mut story), (0, None));
}

#[test]
fn where_accept_is_not_shown_nothing_waits() {
    let mut story = Story::after_walks();
    story.child_finds(2, 80, (0, 20));
    story.is_accepted(Sock::child(2, 80));
    assert_eq!(waits(&mut story), (0, None));
}
