//! Connections that do not get on: stalled ones, and those that are in a state for longest.

use synfin::{
    tcp::{group_by::By, role::Role},
    trace::{filter::Filter, scan::ScannedSocket},
    tracker::{LINGERING_STATES, Oldest},
};
use synfin_common::state::TcpState::{self, *};

use crate::story::{ELSEWHERE, HERE, Sock, Story, at};

/// What a scan finds of a connection whose segments are not acknowledged.
fn unanswered(sock: Sock, state: TcpState) -> ScannedSocket {
    ScannedSocket { retransmits: 3, ..sock.met_in(state) }
}

fn stalled(story: &mut Story) -> u64 {
    story.rows().iter().map(|row| row.stats.scanned.stalled).sum()
}

#[test]
fn what_retransmits_unanswered_is_stalled_until_it_does_not() {
    for known in [true, false] {
        let sock = Sock::client(1, 40_000);
        let mut story = if known { Story::after_walks() } else { Story::new() };
        if known {
            story.connection(sock, &[SynSent, Established]);
            story.wait(2);
        }
        story.scan(HERE, &[unanswered(sock, Established)]);
        assert_eq!(stalled(&mut story), 1, "known: {known}");
        assert!(story.tracker.wants_scan(HERE), "that may pass");
        story.scan(HERE, &[unanswered(sock, Established)]);
        assert_eq!(stalled(&mut story), 1, "still, and not twice");
        story.scan(HERE, &[sock.met_in(Established)]);
        assert_eq!(stalled(&mut story), 0, "known: {known}");
        assert!(!story.tracker.wants_scan(HERE));
    }
}

#[test]
fn what_is_not_through_its_handshake_is_not_stalled() {
    let mut story = Story::new();
    let half_open = unanswered(Sock::child(2, 80), NewSynRecv);
    story.scan(HERE, &[unanswered(Sock::client(1, 40_000), SynSent), half_open]);
    assert_eq!(stalled(&mut story), 0);
}

#[test]
fn a_fin_that_is_not_acknowledged_is_stalled() {
    let mut story = Story::new();
    let socks = [FinWait1, LastAck, TcpState::Closing, CloseWait];
    let met: Vec<_> = (1..)
        .zip(socks)
        .map(|(id, state)| unanswered(Sock::client(id, 40_000 + id as u16), state))
        .collect();
    story.scan(HERE, &met);
    assert_eq!(stalled(&mut story), 4);
}

#[test]
fn what_was_excluded_or_has_ended_is_not_stalled() {
    let sock = Sock::client(1, 40_000);
    let filter = Filter { service_ports: vec!["80".parse().unwrap()], ..Filter::default() };
    let mut story = Story::filtered(filter);
    story.scan(HERE, &[unanswered(sock, Established)]);
    assert_eq!(stalled(&mut story), 0);

    let mut story = Story::after_walks();
    story.connection(sock, &[SynSent, Established]);
    story.walk_begins(HERE);
    let met = ScannedSocket { time: story.now, ..unanswered(sock, Established) };
    story.goes(sock, (Established, Close));
    story.tell(synfin::trace::event::Input::ScannedSocket(met));
    story.walk_ends(HERE, None);
    assert_eq!(stalled(&mut story), 0);
}

#[test]
fn where_there_are_connections_a_walk_is_wanted_from_time_to_time() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::new();
    story.scan(HERE, &[sock.met_in(Established)]);
    story.scan(ELSEWHERE, &[Sock::listener(2, 80).met_in(Listen)]);
    story.wait(4);
    assert!(!story.tracker.wants_scan(HERE));
    story.wait(2);
    assert!(story.tracker.wants_scan(HERE), "one may have stalled");
    assert!(!story.tracker.wants_scan(ELSEWHERE), "none is there");
    story.scan(HERE, &[sock.met_in(Established)]);
    assert!(!story.tracker.wants_scan(HERE));
    story.goes(sock, (Established, Close));
    story.scan(HERE, &[]);
    story.wait(60);
    assert!(!story.tracker.wants_scan(HERE), "the last one is gone");
}

fn oldest(story: &mut Story, state: TcpState) -> Option<Oldest> {
    let index = LINGERING_STATES.iter().position(|&stuck| stuck == state).expect("such a state");
    let rows = story.rows();
    let found: Vec<_> = rows.iter().filter_map(|row| row.stats.oldest[index].clone()).collect();
    assert!(found.len() <= 1, "{found:?}");
    found.into_iter().next()
}

#[test]
fn the_oldest_in_each_state_is_known() {
    let paths: [(TcpState, &[TcpState]); 4] = [
        (CloseWait, &[SynSent, Established, CloseWait]),
        (FinWait2, &[SynSent, Established, FinWait1, FinWait2]),
        (LastAck, &[SynSent, Established, CloseWait, LastAck]),
        (SynSent, &[SynSent]),
    ];
    for (state, path) in paths {
        let mut story = Story::after_walks();
        let (first, second) = (Sock::client(1, 40_000), Sock::client(2, 40_001));
        story.wait(10);
        story.connection(first, path);
        // Its last record is what counts, not its birth.
        let since = story.now - 1_000;
        story.wait(30);
        story.connection(second, path);
        let found = oldest(&mut story, state).expect("one");
        assert_eq!((found.since, found.at_least), (since, false), "{state:?}");
        for other in LINGERING_STATES.into_iter().filter(|&other| other != state) {
            assert_eq!(oldest(&mut story, other), None, "{state:?}");
        }
        story.goes(first, (state, Close));
        story.finish();
        let found = oldest(&mut story, state).expect("the other one");
        assert!(found.since > since, "{state:?}");
        story.goes(second, (state, Close));
        story.finish();
        assert_eq!(oldest(&mut story, state), None, "{state:?}");
    }
}

#[test]
fn of_the_oldest_the_owner_is_known() {
    let mut story = Story::after_walks();
    story.listens(Sock::listener(1, 80), "leaky");
    story.connection(Sock::child(2, 80), &[SynRecv, Established, CloseWait]);
    let owner = oldest(&mut story, CloseWait).and_then(|oldest| oldest.owner).expect("an owner");
    assert_eq!((owner.pid, &*owner.label.name), (Some(700), "leaky"));
}

#[test]
fn what_was_there_before_may_be_older_than_we_can_know() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::new();
    let met = story.now + 1_000;
    story.scan(HERE, &[sock.met_in(CloseWait)]);
    story.wait(60);
    let found = oldest(&mut story, CloseWait).expect("one");
    assert_eq!((found.since, found.at_least), (met, true));
    // It goes on, and from then on it is known.
    let since = story.now;
    story.goes(sock, (CloseWait, LastAck));
    let found = oldest(&mut story, LastAck).expect("one");
    assert_eq!((found.since, found.at_least), (since, false));
}

#[test]
fn a_state_that_a_walk_found_may_be_older_than_that() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    story.connection(sock, &[SynSent, Established]);
    // The record of the peer's FIN is lost.
    story.wait(60);
    story.scan(HERE, &[sock.met_in(CloseWait)]);
    assert!(oldest(&mut story, CloseWait).expect("one").at_least);
}

#[test]
fn of_several_rows_the_oldest_is_shown() {
    let mut story = Story::after_walks();
    let since = story.now + 2_000;
    story.connection(
        Sock { remote: at("192.0.2.81:443"), ..Sock::client(1, 40_000) },
        &[SynSent, Established, CloseWait],
    );
    story.wait(5);
    for (id, remote) in [(2, "192.0.2.80:443"), (3, "192.0.2.82:443")] {
        story.connection(
            Sock { remote: at(remote), ..Sock::client(id, 40_000) },
            &[SynSent, Established, CloseWait],
        );
    }
    assert_eq!(oldest(&mut story, CloseWait).map(|oldest| oldest.since), Some(since));
    let rows = story.tracker.take_snapshot().rows(By::Remote);
    let rows = rows.iter().filter(|row| row.identity.role == Role::Client);
    let ages: Vec<_> =
        rows.map(|row| row.stats.oldest[0].as_ref().map(|oldest| oldest.since)).collect();
    assert_eq!(ages.iter().filter(|&&age| age == Some(since)).count(), 1, "{ages:?}");
    assert_eq!(ages.len(), 3);
}
