//! How many wait for accept(), as their successors find it.

use synfin::{
    input::{Input, Opening, Transition, WalkedSocket},
    tracker::Role,
};
use synfin_common::state::TcpState::*;

use crate::story::{HERE, Sock, Story};

impl Story {
    /// A child is born while so many wait, of at most so many.
    fn child_finds(&mut self, id: u64, port: u16, accept_queue: (u32, u32)) {
        let child = Sock::child(id, port);
        let opening = Opening { cgroup: 0, accept_queue, comm: Vec::new() };
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
    story.walk(HERE, &[WalkedSocket { accept_queue: (6, 20), ..listener.met_in(Listen) }]);
    let row = story.row(Role::Server, 80);
    let depth = &row.counters.accept_depth;
    assert_eq!(depth.count(), 6);
    assert_eq!([depth.quantile(0.5), depth.quantile(0.99)], [Some(2), Some(5)]);
    assert_eq!((row.accept_peak, row.walked.accept_queue, row.walked.accept_limit), (6, 6, 20));
}

#[test]
fn a_burst_between_walks_is_in_the_peak() {
    let listener = Sock::listener(1, 80);
    let mut story = Story::after_walks();
    story.listens(listener, "server");
    story.child_finds(2, 80, (17, 20));
    story.walk(HERE, &[WalkedSocket { accept_queue: (0, 20), ..listener.met_in(Listen) }]);
    assert_eq!(story.row(Role::Server, 80).accept_peak, 17);
    // It belongs to its interval.
    let row = story.row(Role::Server, 80);
    assert_eq!((row.accept_peak, row.counters.accept_depth.count()), (0, 0));
}

#[test]
fn of_several_limits_the_least_counts() {
    let [one, other, idle] = [1, 2, 3].map(|id| Sock::listener(id, 80));
    let mut story = Story::after_walks();
    let met = |sock: Sock, accept_queue| WalkedSocket { accept_queue, ..sock.met_in(Listen) };
    story.walk(HERE, &[met(one, (3, 128)), met(other, (2, 20)), met(idle, (0, 4096))]);
    let row = story.row(Role::Server, 80);
    assert_eq!((row.walked.accept_queue, row.walked.accept_limit), (5, 20));
    assert_eq!(row.accept_peak, 3, "of one listener");
}

#[test]
fn where_no_walk_has_met_a_listener_its_children_tell_the_limit() {
    let listener = Sock::listener(1, 80);
    let mut story = Story::after_walks();
    story.listens(listener, "server");
    story.child_finds(2, 80, (0, 128));
    story.child_finds(3, 80, (1, 20));
    assert_eq!(story.row(Role::Server, 80).walked.accept_limit, 20);
    // It belongs to its interval.
    assert_eq!(story.row(Role::Server, 80).walked.accept_limit, 0);
}
