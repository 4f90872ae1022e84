//! TIME_WAITs that are over before their time: their ends are used anew. All of it is inferred; what
//! the kernel shows of it is told in `remains.rs`.

use synfin::{
    tcp::{group_by::By, role::Role},
    trace::{
        event::Input,
        scan::{ScannedSocket, ScannedTimeWait},
    },
    tracker::Limits,
};
use synfin_common::state::TcpState::{self, *};

use crate::story::{ELSEWHERE, HERE, SECOND, Sock, Story};

fn now(story: &mut Story) -> u64 {
    story.tracker.take_snapshot().rows(By::Port).iter().map(|row| row.stats.time_wait_now).sum()
}

#[test]
fn a_connection_at_the_same_ends_takes_the_place_of_a_time_wait() {
    let first = Sock::client(1, 40_000);
    let again = Sock { id: 3, ..first };
    for rows in [0, 10] {
        let mut story = Story::with(Limits { connections: 10, rows });
        story.ends_in_time_wait(first);
        story.ends_in_time_wait(Sock::client(2, 40_001));
        story.wait(2);
        assert_eq!(now(&mut story), 2);
        story.connection(again, &[SynSent]);
        assert_eq!(now(&mut story), 2, "it may fail, and the old one is restored");
        story.goes(again, (SynSent, Established));
        assert_eq!(now(&mut story), 1, "with {rows} rows");
        // It has its own in the end.
        story.goes(again, (Established, FinWait1));
        story.goes(again, (FinWait1, TcpState::Closing));
        story.goes(again, (TcpState::Closing, Close));
        assert_eq!(now(&mut story), 2, "with {rows} rows");
        story.wait(100);
        assert_eq!(now(&mut story), 0);
    }
}

#[test]
fn a_server_takes_a_new_connection_at_the_ends_of_a_time_wait() {
    let first = Sock::child(2, 80);
    let again = Sock { id: 3, ..first };
    let mut story = Story::after_walks();
    story.listens(Sock::listener(1, 80), "server");
    story.connection(first, &[SynRecv, Established, FinWait1, TcpState::Closing, Close]);
    assert_eq!(story.row(Role::Server, 80).stats.time_wait_now, 1);
    story.connection(again, &[SynRecv, Established]);
    assert_eq!(story.row(Role::Server, 80).stats.time_wait_now, 0);
}

#[test]
fn equal_ends_elsewhere_take_no_place() {
    let first = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    story.ends_in_time_wait(first);
    story.connection(Sock { id: 2, netns: ELSEWHERE, ..first }, &[SynSent, Established]);
    assert_eq!(now(&mut story), 1);
}

#[test]
fn the_place_is_taken_once() {
    let first = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    for port in [40_001, 40_002] {
        story.ends_in_time_wait(Sock::client(u64::from(port), port));
    }
    story.ends_in_time_wait(first);
    for id in 2..5 {
        // Their ends were lost, or they were reset: none has left a TIME_WAIT.
        story.connection(Sock { id, ..first }, &[SynSent, Established]);
    }
    assert_eq!(now(&mut story), 2);
}

#[test]
fn a_time_wait_is_over_before_its_time_whenever_it_was_walked() {
    let first = Sock::client(1, 40_000);
    let again = Sock { id: 2, ..first };
    // Walked never, after it was entered, while it was; the clock's second may change in between.
    for scanned in ["never", "afterwards", "meanwhile"] {
        for offset in [0, SECOND / 2, SECOND - 2_000, SECOND - 5_000] {
            let mut story = Story::after_walks();
            story.now = 2_000 * SECOND + offset;
            if scanned == "meanwhile" {
                story.walk_begins(HERE);
            }
            story.ends_in_time_wait(first);
            if scanned == "afterwards" {
                story.walk_begins(HERE);
            }
            if scanned != "never" {
                story.meets_time_wait(first, 59_999);
                story.walk_ends(HERE, None);
            }
            assert_eq!(now(&mut story), 1, "{scanned} {offset}");
            story.connection(again, &[SynSent, Established]);
            assert_eq!(now(&mut story), 0, "{scanned} {offset}");
        }
    }
}

#[test]
fn an_orphan_in_fin_wait2_is_none_of_them() {
    let (orphan, other) = (Sock::client(1, 40_000), Sock::client(2, 40_001));
    for meanwhile in [false, true] {
        let mut story = Story::after_walks();
        if meanwhile {
            story.walk_begins(HERE);
        }
        story.ends_in_time_wait(orphan);
        story.ends_in_time_wait(other);
        if !meanwhile {
            story.walk_begins(HERE);
        }
        for (sock, fin_wait2) in [(orphan, true), (other, false)] {
            story.tell(Input::ScannedTimeWait(ScannedTimeWait {
                fin_wait2,
                port_by_connect: None,
                local: sock.local,
                remote: sock.remote,
                remaining_ms: 60_000,
            }));
        }
        story.walk_ends(HERE, None);
        assert_eq!(now(&mut story), 1);
        story.connection(Sock { id: 3, ..orphan }, &[SynSent, Established]);
        assert_eq!(now(&mut story), 1, "the other one's; met meanwhile: {meanwhile}");
    }
}

#[test]
fn a_walk_knows_better_than_a_guess_whose_it_is() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    // Its birth was lost, and so was that of the listener that it came from.
    for states in
        [(Established, FinWait1), (FinWait1, TcpState::Closing), (TcpState::Closing, Close)]
    {
        story.goes(sock, states);
    }
    assert_eq!(story.row(Role::Client, 443).stats.time_wait_now, 1);
    story.walk_begins(HERE);
    let listener = Sock::listener(2, 40_000).met_in(Listen);
    story.tell(Input::ScannedSocket(ScannedSocket { time: story.now, ..listener }));
    story.meets_time_wait(sock, 59_000);
    story.walk_ends(HERE, None);
    let rows = story.rows();
    let time_waits: Vec<_> = rows
        .iter()
        .filter(|row| row.stats.time_wait_now > 0)
        .map(|row| row.identity.role)
        .collect();
    assert_eq!(time_waits, [Role::Server]);
}
