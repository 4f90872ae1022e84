//! What happens around lives: records that are lost, sockets that are used anew, scans, full
//! tables, clocks and counters that make no sense. Each story was a mistake once, or could be.

mod story;

mod accept_queues;
mod closing;
mod ephemeral_ports;
mod evidence;
mod listeners;
mod port_counts;
mod remains;
mod stuck;
mod time_waits;

use story::{ELSEWHERE, HERE, Sock, Story, at};
use synfin::{
    tcp::{
        close_reason::CloseReason,
        handshake::{Handshake, Unmeasured},
        role::Role,
    },
    trace::{
        counters::{Counters, Tick},
        event::Input,
        scan::{ScannedSocket, ScannedTimeWait},
    },
    tracker::{Common, Limits, Origin},
};
use synfin_common::{
    event::Kind,
    state::TcpState::{self, *},
};

#[test]
fn a_socket_used_anew_is_another_connection() {
    let first = Sock::client(1, 40_000);
    let second = Sock { local: at("192.0.2.1:40001"), ..first };
    let mut story = Story::after_walks();
    story.connection(first, &[SynSent, Established]);
    // The first one's end and the second one's birth are lost.
    story.wait(30);
    story.goes(second, (Established, CloseWait));
    assert_eq!(story.reasons(), [CloseReason::LostSight]);
    assert!(story.tracker.events().are_lower_bounds());
    let connection = story.only_life();
    assert_eq!(
        (connection.local(), connection.origin, connection.handshake),
        (second.local, Origin::AfterLoss, None)
    );
    story.goes(second, (CloseWait, LastAck));
    story.goes(second, (LastAck, Close));
    assert_eq!(story.reasons(), [CloseReason::LostSight, CloseReason::ClosedByPeer]);
    assert_eq!(story.closed[1].opened, None, "its age is not known");
}

/// Of the child nothing is known but its birth, which up to Linux 6.14 tells the listener's ends.
#[test]
fn a_childs_socket_that_connects_is_another_connection() {
    let (child, client) = (Sock::child(1, 8080), Sock::client(1, 40_000));
    let mut story = Story::after_walks();
    story.connection(child, &[SynRecv]);
    // The child's end and the client's birth are lost.
    story.wait(30);
    let met = client.met_in(CloseWait);
    story.scan(HERE, &[ScannedSocket { port_by_connect: Some(true), ..met }]);
    assert_eq!(story.closed.len(), 1);
    let connection = story.only_life();
    assert_eq!((connection.role, connection.state), (Role::Client, CloseWait));
    assert_eq!((connection.local(), connection.remote()), (client.local, client.remote));
}

#[test]
fn a_socket_used_anew_in_another_namespace_is_another_connection() {
    let here = Sock::client(1, 40_000);
    let there = Sock { netns: ELSEWHERE, ..here };
    for told_by_walk in [false, true] {
        let mut story = Story::after_walks();
        story.connection(here, &[SynSent, Established]);
        if told_by_walk {
            story.scan(ELSEWHERE, &[there.met_in(Established)]);
        } else {
            story.goes(there, (Established, FinWait1));
        }
        assert_eq!(story.reasons(), [CloseReason::LostSight]);
        assert_eq!(story.only_life().netns, ELSEWHERE);
    }
}

#[test]
fn what_is_established_never_connects_again() {
    let sock = Sock::client(1, 40_000);
    for told_by_walk in [false, true] {
        let mut story = Story::after_walks();
        story.connection(sock, &[SynSent, Established]);
        story.wait(1);
        if told_by_walk {
            story.scan(HERE, &[sock.met_in(SynSent)]);
        } else {
            story.goes(sock, (SynSent, Close));
        }
        assert_eq!(story.reasons()[0], CloseReason::LostSight);
        let attempts: u64 = story.rows().iter().map(|row| row.stats.counters.attempts).sum();
        assert_eq!(attempts, 2);
    }
}

#[test]
fn one_absence_is_no_end() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    story.connection(sock, &[SynSent, Established]);
    story.wait(2);
    story.scan(HERE, &[]);
    assert!(story.tracker.wants_scan(HERE), "another walk is to decide");
    story.scan(HERE, &[sock.met_in(Established)]);
    assert!(!story.tracker.wants_scan(HERE));
    story.scan(HERE, &[]);
    assert_eq!(story.only_life().state, Established);
    story.scan(HERE, &[]);
    assert_eq!(story.reasons(), [CloseReason::LostSight]);
}

#[test]
fn absences_with_a_record_in_between_are_no_end() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    story.connection(sock, &[SynSent, Established]);
    story.wait(2);
    story.scan(HERE, &[]);
    story.goes(sock, (Established, CloseWait));
    story.wait(2);
    story.scan(HERE, &[]);
    assert_eq!(story.only_life().state, CloseWait);
}

#[test]
fn one_absence_is_enough_after_losses() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    story.connection(sock, &[SynSent, Established]);
    story.loses(Kind::Closing);
    story.wait(2);
    story.scan(HERE, &[]);
    assert_eq!(story.reasons(), [CloseReason::LostSight]);
}

#[test]
fn what_just_connects_is_left_to_a_later_walk() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    story.connection(sock, &[SynSent]);
    story.loses(Kind::Closing);
    story.scan(HERE, &[]);
    assert_eq!(story.reasons(), []);
    assert!(story.tracker.wants_scan(HERE), "a later walk is wanted");
    story.wait(2);
    story.scan(HERE, &[]);
    story.scan(HERE, &[]);
    assert_eq!(story.reasons(), [CloseReason::ConnectLostSight]);
}

#[test]
fn a_state_that_may_not_be_stored_yet_is_looked_at_again() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    story.connection(sock, &[SynSent, Established]);
    // Within moments: its FIN_WAIT1 was lost, or is the scan's ESTABLISHED of before to come?
    story.scan(HERE, &[sock.met_in(FinWait1)]);
    assert_eq!((story.only_life().state, story.gaps()), (Established, 0));
    assert!(story.tracker.wants_scan(HERE));
    story.wait(1);
    story.scan(HERE, &[sock.met_in(FinWait1)]);
    assert_eq!((story.only_life().state, story.gaps()), (FinWait1, 1));
}

#[test]
fn losses_are_repaired_where_a_walk_was() {
    let mut story = Story::after_walks();
    story.loses(Kind::Closing);
    story.scan(HERE, &[]);
    assert!(!story.tracker.wants_scan(HERE));
    assert!(story.tracker.wants_scan(ELSEWHERE));
}

#[test]
fn a_walk_that_failed_tells_of_no_absence() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    story.connection(sock, &[SynSent, Established]);
    story.loses(Kind::Closing);
    story.wait(2);
    story.walk_begins(HERE);
    story.walk_ends(HERE, Some("no such namespace"));
    assert_eq!(story.only_life().state, Established);
    assert!(story.tracker.wants_scan(HERE));
}

#[test]
fn what_closed_after_the_walk_met_it_stays_closed() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::new();
    story.walk_begins(HERE);
    let met = ScannedSocket { time: story.now, ..sock.met_in(Established) };
    story.goes(sock, (Established, Close));
    story.tell(Input::ScannedSocket(met));
    story.walk_ends(HERE, None);
    assert_eq!(story.tracker.open().count(), 0);
    assert_eq!(story.closed.len(), 1);
}

#[test]
fn a_listener_that_closed_after_the_walk_met_it_serves_nobody() {
    let listener = Sock::listener(1, 40_000);
    let mut story = Story::after_walks();
    story.listens(listener, "server");
    story.walk_begins(HERE);
    let met = ScannedSocket { time: story.now, ..listener.met_in(Listen) };
    story.goes(listener, (Listen, Close));
    story.tell(Input::ScannedSocket(met));
    story.walk_ends(HERE, None);
    // Now the port is a client's, which no record of its birth shows.
    story.goes(Sock::client(2, 40_000), (Established, CloseWait));
    assert_eq!(story.only_life().role, Role::Client);
}

#[test]
fn a_listener_that_a_walk_passed_over_keeps_its_owner() {
    let mut story = Story::after_walks();
    story.listens(Sock::listener(1, 80), "server");
    story.wait(2);
    story.scan(HERE, &[]);
    story.connection(Sock::child(2, 80), &[SynRecv, Established]);
    let owner = story.only_life().owner.as_ref().map(|owner| (owner.pid, &*owner.label.name));
    assert_eq!(owner, Some((Some(700), "server")));
}

#[test]
fn a_child_belongs_to_its_listener_and_not_to_whom_it_came_in_by() {
    let mut story = Story::after_walks();
    story.listens(Sock::listener(1, 80), "server");
    let child = Sock::child(2, 80);
    story.connection(child, &[SynRecv, Established]);
    let row = &story.rows()[0];
    assert_eq!((row.identity.role, &row.identity.port), (Role::Server, &Common::One(80)));
    assert_eq!(story.only_life().owner.as_ref().map(|owner| &*owner.label.name), Some("server"));
}

#[test]
fn the_role_of_an_adopted_one_is_known_by_its_port() {
    let sock = Sock::client(2, 80);
    // Served or not, how the port came about; then the role, and whether it is a guess.
    for (served, port_by_connect, role, assumed) in [
        (false, Some(true), Role::Client, false),
        (true, Some(true), Role::Client, false),
        (true, Some(false), Role::Server, false),
        (false, Some(false), Role::Server, true),
        (true, None, Role::Server, false),
        (false, None, Role::Client, true),
    ] {
        let mut story = Story::new();
        if served {
            story.listens(Sock::listener(1, 80), "server");
        }
        let met = ScannedSocket { port_by_connect, ..sock.met_in(Established) };
        story.scan(HERE, &[met, Sock::listener(1, 80).met_in(if served { Listen } else { Close })]);
        let connection = story.only_life();
        assert_eq!(
            (connection.role, connection.role_assumed),
            (role, assumed),
            "{served} {port_by_connect:?}"
        );
    }
}

#[test]
fn what_was_there_before_has_no_handshake_and_no_age() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::new();
    story.scan(HERE, &[sock.met_in(Established)]);
    story.goes(sock, (Established, CloseWait));
    story.goes(sock, (CloseWait, LastAck));
    story.goes(sock, (LastAck, Close));
    let closed = &story.closed[0];
    assert_eq!((closed.origin, closed.opened), (Origin::Preexisting, None));
    assert_eq!(closed.handshake, None);
    let rows = story.rows();
    assert_eq!((rows[0].stats.counters.adopted, rows[0].stats.counters.established), (1, 0));
    assert_eq!(rows[0].stats.counters.lifetime.count(), 0);
}

#[test]
fn a_record_that_is_missing_in_the_middle_is_a_gap() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    story.goes(sock, (Close, SynSent));
    story.goes(sock, (FinWait1, FinWait2));
    assert_eq!((story.only_life().state, story.gaps()), (FinWait2, 1));
    let lost = Handshake::Unmeasured(Unmeasured::EvidenceLost);
    assert_eq!(story.only_life().handshake, Some(lost));
}

#[test]
fn ends_that_a_birth_does_not_know_are_learnt() {
    let listener = Sock::listener(1, 80);
    let child = Sock::child(2, 80);
    let client = Sock::client(3, 40_000);
    let mut story = Story::after_walks();
    story.listens(listener, "server");
    story.connection(child, &[SynRecv]);
    story.connection(client, &[SynSent]);
    story.scan(HERE, &[listener.met_in(Listen), child.met_in(SynRecv), client.met_in(SynSent)]);
    let ends: Vec<_> = story
        .tracker
        .open()
        .map(|(_, connection)| (connection.local(), connection.remote()))
        .collect();
    assert_eq!(ends, [(child.local, child.remote), (client.local, client.remote)]);
}

#[test]
fn a_full_table_loses_sight_and_says_so() {
    let mut story = Story::with(Limits { connections: 1, rows: 10 });
    story.connection(Sock::client(1, 40_000), &[SynSent, Established]);
    story.connection(Sock::client(2, 40_001), &[SynSent]);
    story.connection(Sock::client(3, 40_002), &[SynSent]);
    assert_eq!(story.reasons(), [CloseReason::LostSight, CloseReason::ConnectLostSight]);
    assert_eq!(story.tracker.take_snapshot().tables.evicted, 2);
}

#[test]
fn walks_over_more_than_a_full_table_holds_exchange_nothing() {
    let socks = [1, 2, 3, 4].map(|id| Sock::client(id, 40_000));
    let met = socks.map(|sock| sock.met_in(Established));
    // What was there before is counted once, and what was born is not counted again.
    for (born, adopted) in [(false, 4), (true, 0)] {
        let mut story = Story::with(Limits { connections: 2, rows: 10 });
        if born {
            story.scan(HERE, &[]);
            socks.iter().for_each(|&sock| story.connection(sock, &[SynSent, Established]));
        }
        for _ in 0..3 {
            story.scan(HERE, &met);
        }
        assert_eq!(story.reasons(), [CloseReason::LostSight; 2], "{born}");
        assert_eq!((story.tracker.evicted(), story.gaps()), (2, 0), "{born}");
        let row = story.only_row();
        assert_eq!((row.stats.counters.adopted, row.stats.gauges.open), (adopted, 2), "{born}");
    }
}

#[test]
fn time_wait_is_counted_once_however_often_it_is_walked() {
    for rows in [0, 10] {
        let sock = Sock::client(1, 40_000);
        let mut story = Story::with(Limits { connections: 10, rows });
        story.ends_in_time_wait(sock);
        for _ in 0..3 {
            story.wait(1);
            story.walk_begins(HERE);
            story.tell(Input::ScannedTimeWait(ScannedTimeWait {
                fin_wait2: false,
                port_by_connect: Some(true),
                local: sock.local,
                remote: sock.remote,
                remaining_ms: 30_000,
            }));
            story.walk_ends(HERE, None);
        }
        assert_eq!(story.rows()[0].stats.time_wait_now, 1, "with {rows} rows");
    }
}

#[test]
fn what_one_namespace_has_is_not_forgotten_by_walking_another() {
    for rows in [0, 10] {
        let here = Sock::listener(1, 80);
        let there = Sock { netns: ELSEWHERE, id: 2, ..here };
        let mut story = Story::with(Limits { connections: 10, rows });
        story.scan(HERE, &[here.met_in(Listen)]);
        story.scan(ELSEWHERE, &[there.met_in(Listen)]);
        assert_eq!(story.rows()[0].stats.scanned.listeners, 2, "with {rows} rows");
        story.scan(HERE, &[]);
        assert_eq!(story.rows()[0].stats.scanned.listeners, 1, "with {rows} rows");
    }
}

#[test]
fn a_peak_belongs_to_its_interval() {
    let mut story = Story::after_walks();
    story.ends_in_time_wait(Sock::client(1, 40_000));
    assert_eq!(story.rows()[0].stats.time_wait_peak, 1);
    story.wait(100);
    assert_eq!(story.rows()[0].stats.time_wait_peak, 1, "there was one until a minute was over");
    story.wait(100);
    assert_eq!(story.rows().len(), 0, "there is nothing to say");
    story.connection(Sock::client(2, 40_001), &[SynSent]);
    assert_eq!(story.rows()[0].stats.time_wait_peak, 0);
}

#[test]
fn what_passes_by_itself_is_looked_at_again() {
    let mut story = Story::after_walks();
    let half_open = Sock::child(1, 80).met_in(NewSynRecv);
    story.scan(HERE, &[Sock::listener(2, 80).met_in(Listen), half_open]);
    assert_eq!(story.rows()[0].stats.scanned.half_open, 1);
    assert!(story.tracker.wants_scan(HERE));
    story.scan(HERE, &[Sock::listener(2, 80).met_in(Listen)]);
    assert_eq!(story.rows()[0].stats.scanned.half_open, 0);
    assert!(!story.tracker.wants_scan(HERE));
}

#[test]
fn the_end_of_all_time_is_a_time_too() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    story.now = u64::MAX - 10;
    story.connection(sock, &[SynSent, Established]);
    story.now = u64::MAX;
    story.scan(HERE, &[sock.met_in(Established)]);
    story.goes(sock, (Established, FinWait1));
    story.goes(sock, (FinWait1, TcpState::Closing));
    story.goes(sock, (TcpState::Closing, Close));
    story.walk_begins(HERE);
    story.tell(Input::ScannedTimeWait(ScannedTimeWait {
        fin_wait2: false,
        port_by_connect: None,
        local: sock.local,
        remote: sock.remote,
        remaining_ms: u32::MAX,
    }));
    story.walk_ends(HERE, None);
    assert_eq!(story.rows()[0].stats.counters.time_wait_entered, 1);
}

#[test]
fn counters_never_shrink() {
    let mut story = Story::after_walks();
    let counters = Counters {
        seen: [9; Kind::COUNT],
        lost: [5; Kind::COUNT],
        filtered: [2; Kind::COUNT],
        missed: 3,
    };
    story.tell(Input::Tick(Tick { time: story.now, counters, ports: Vec::new() }));
    story.rows();
    story.tell(Input::Tick(Tick {
        time: story.now,
        counters: Counters::default(),
        ports: Vec::new(),
    }));
    let events = story.tracker.take_snapshot().events;
    let counts = [events.seen, events.lost, events.filtered, events.missed];
    assert_eq!(counts, [0; 4]);
    let counters = Counters {
        seen: [u64::MAX; Kind::COUNT],
        lost: [u64::MAX; Kind::COUNT],
        filtered: [u64::MAX; Kind::COUNT],
        missed: u64::MAX,
    };
    story.tell(Input::Tick(Tick { time: story.now, counters, ports: Vec::new() }));
    assert!(story.tracker.take_snapshot().events.are_lower_bounds());
}
