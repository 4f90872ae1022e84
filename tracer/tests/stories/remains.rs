//! What sockets leave behind where the kernel shows it: each TIME_WAIT, each orphan in FIN_WAIT2,
//! and how they end.

use synfin::{
    tcp::{close_reason::CloseReason, group_by::By, role::Role},
    trace::{
        counters::{KERNEL_COUNTERS, KernelCounters},
        event::{Input, TimeWaitKind, Transition},
        filter::Filter,
        scan::ScanEnd,
    },
    tracker::Limits,
};
use synfin_common::{
    event::{Flags, Kind},
    reset::ResetReason,
    state::TcpState::{self, *},
};

use crate::story::{HERE, SECOND, Sock, Story};

/// An orphan: closed, and nobody holds it any more.
const ORPHAN: Flags = Flags::DEAD.with(Flags::SHUT_READ).with(Flags::SHUT_WRITE);

fn exact() -> Story {
    Story::after_walks().exact()
}

/// TIME_WAITs and orphans in FIN_WAIT2.
fn now(story: &mut Story) -> (u64, u64) {
    let rows = story.tracker.take_snapshot().rows(By::Port);
    let now = rows.iter().map(|row| (row.stats.time_wait_now, row.stats.scanned.fin_wait2_orphans));
    now.fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1))
}

/// It is one TIME_WAIT for as long as nothing tells that it is gone.
fn stays_until_told(story: &mut Story, sock: Sock, case: &str) {
    assert_eq!(now(story), (1, 0), "{case}");
    story.wait(60);
    assert_eq!(now(story), (1, 0), "{case}");
    story.is_gone(sock);
    assert_eq!(now(story), (0, 0), "{case}");
}

/// TIME_WAITs that were entered, those that found no place, and those that there are.
fn booked(story: &mut Story) -> (u64, u64, u64) {
    let row = story.only_row();
    let counters = &row.stats.counters;
    (counters.time_wait_entered, counters.time_wait_overflowed, row.stats.time_wait_now)
}

impl Story {
    /// Closed by our application, it leaves this behind.
    fn ends_leaving(&mut self, sock: Sock, remains: TimeWaitKind) {
        self.connection(sock, &[SynSent, Established, FinWait1, FinWait2]);
        self.ends_now_leaving(sock, remains);
    }

    fn ends_now_leaving(&mut self, sock: Sock, remains: TimeWaitKind) {
        self.leaves(sock, remains);
        self.ends(sock, FinWait2, ORPHAN, 0);
    }
}

#[test]
fn an_orphan_in_fin_wait2_turns_when_its_peer_closes() {
    let sock = Sock::client(1, 40_000);
    let mut story = exact();
    story.ends_leaving(sock, TimeWaitKind::FinWait2);
    assert_eq!(story.reasons(), [CloseReason::ClosedByUs], "no reset is waited for");
    assert_eq!(story.closed[0].time_wait, Some(true));
    assert_eq!(now(&mut story), (0, 1));
    story.wait(50);
    story.turns(sock);
    assert_eq!(now(&mut story), (1, 0));
    // Its minute begins then.
    story.wait(59);
    assert_eq!(now(&mut story), (1, 0));
    story.is_gone(sock);
    assert_eq!(now(&mut story), (0, 0));
}

#[test]
fn an_orphan_in_fin_wait2_may_wait_in_vain() {
    let [in_vain, other] = [(1, 40_000), (2, 40_001)].map(|(id, port)| Sock::client(id, port));
    for scanned in [false, true] {
        let mut story = exact();
        story.ends_leaving(in_vain, TimeWaitKind::FinWait2);
        story.ends_leaving(other, TimeWaitKind::FinWait2);
        if scanned {
            story.walk_begins(HERE);
            story.meets_remains(in_vain, true, 59_000);
            story.meets_remains(other, true, 59_000);
            story.walk_ends(HERE, None);
        }
        assert_eq!(now(&mut story), (0, 2));
        story.is_gone(in_vain);
        assert_eq!(now(&mut story), (0, 1), "walked: {scanned}");
        story.turns(other);
        assert_eq!(now(&mut story), (1, 0), "walked: {scanned}");
    }
}

#[test]
fn a_time_wait_lasts_until_the_kernel_says_that_it_is_gone() {
    let sock = Sock::client(1, 40_000);
    let mut story = exact();
    story.ends_leaving(sock, TimeWaitKind::TimeWait);
    // The kernel's timers are late.
    story.wait(65);
    assert_eq!(now(&mut story), (1, 0));
    story.is_gone(sock);
    assert_eq!(now(&mut story), (0, 0));
    story.is_gone(sock);
    assert_eq!(now(&mut story), (0, 0), "it is gone once");
}

#[test]
fn a_time_wait_whose_end_was_lost_is_gone_when_no_timer_is_that_late() {
    let sock = Sock::client(1, 40_000);
    let mut story = exact();
    story.ends_leaving(sock, TimeWaitKind::TimeWait);
    story.loses(Kind::TimeWaitExit);
    story.wait(67);
    assert_eq!(now(&mut story), (1, 0));
    story.wait(2);
    assert_eq!(now(&mut story), (0, 0));
}

#[test]
fn what_ends_while_a_walk_goes_on_has_ended() {
    let [first, other] = [(1, 40_000), (2, 40_001)].map(|(id, port)| Sock::client(id, port));
    for (is_met, remains) in [
        (false, TimeWaitKind::TimeWait),
        (true, TimeWaitKind::TimeWait),
        (false, TimeWaitKind::FinWait2),
        (true, TimeWaitKind::FinWait2),
    ] {
        let is_orphan = remains == TimeWaitKind::FinWait2;
        let expected = if is_orphan { (0, 1) } else { (1, 0) };
        let mut story = exact();
        story.ends_leaving(first, remains);
        story.ends_leaving(other, remains);
        story.walk_begins(HERE);
        story.is_gone(first);
        assert_eq!(now(&mut story), expected, "while the walk goes on");
        if is_met {
            story.meets_remains(first, is_orphan, 59_999);
        }
        story.meets_remains(other, is_orphan, 59_999);
        story.walk_ends(HERE, None);
        assert_eq!(now(&mut story), expected, "met: {is_met}, {remains:?}");
        story.is_gone(other);
        assert_eq!(now(&mut story), (0, 0), "met: {is_met}, {remains:?}");
    }
}

#[test]
fn what_turns_while_a_walk_goes_on_has_turned() {
    let sock = Sock::client(1, 40_000);
    for (entered_meanwhile, is_met_as) in
        [(false, Some(true)), (false, Some(false)), (true, None), (true, Some(true))]
    {
        let mut story = exact();
        if entered_meanwhile {
            story.walk_begins(HERE);
        }
        story.ends_leaving(sock, TimeWaitKind::FinWait2);
        if !entered_meanwhile {
            story.walk_begins(HERE);
        }
        story.turns(sock);
        assert_eq!(now(&mut story), (1, 0));
        if let Some(fin_wait2) = is_met_as {
            story.meets_remains(sock, fin_wait2, 59_999);
        }
        story.walk_ends(HERE, None);
        stays_until_told(&mut story, sock, &format!("{entered_meanwhile} {is_met_as:?}"));
    }
}

#[test]
fn what_comes_and_goes_while_a_walk_goes_on_was_never_there() {
    let sock = Sock::client(1, 40_000);
    for is_met in [false, true] {
        let mut story = exact();
        story.walk_begins(HERE);
        story.ends_leaving(sock, TimeWaitKind::TimeWait);
        story.is_gone(sock);
        if is_met {
            story.meets_time_wait(sock, 59_999);
        }
        story.walk_ends(HERE, None);
        let row = story.only_row();
        assert_eq!((row.stats.time_wait_now, row.stats.time_wait_peak), (0, 1), "met: {is_met}");
        assert_eq!(row.stats.counters.time_wait_entered, 1);
    }
}

#[test]
fn a_second_one_at_the_same_ends_is_not_the_first() {
    let first = Sock::client(1, 40_000);
    let again = Sock { id: 2, ..first };
    let mut story = exact();
    story.ends_leaving(first, TimeWaitKind::TimeWait);
    story.wait(50);
    story.walk_begins(HERE);
    // The scan comes past; then the port is used anew.
    story.is_gone(first);
    story.ends_leaving(again, TimeWaitKind::TimeWait);
    story.meets_time_wait(first, 10_000);
    story.walk_ends(HERE, None);
    assert_eq!(now(&mut story), (1, 0));
    story.wait(40);
    assert_eq!(now(&mut story), (1, 0), "it has its own minute");
    story.is_gone(again);
    assert_eq!(now(&mut story), (0, 0));
}

#[test]
fn one_that_a_walk_met_before_its_end_was_told_is_there_once() {
    let sock = Sock::client(1, 40_000);
    for is_shown in [false, true] {
        let mut story = Story::after_walks();
        if is_shown {
            story = story.exact();
        }
        story.connection(sock, &[SynSent, Established, FinWait1, TcpState::Closing]);
        story.walk_begins(HERE);
        story.meets_time_wait(sock, 59_999);
        story.walk_ends(HERE, None);
        if is_shown {
            story.leaves(sock, TimeWaitKind::TimeWait);
        }
        story.goes(sock, (TcpState::Closing, Close));
        assert_eq!(now(&mut story), (1, 0), "is shown: {is_shown}");
    }
}

#[test]
fn one_that_is_older_than_the_trace_may_end_early_once_a_walk_has_met_it() {
    let [old, other] = [(1, 40_000), (2, 40_001)].map(|(id, port)| Sock::client(id, port));
    let mut story = Story::new().exact();
    story.walk_begins(HERE);
    story.meets_time_wait(old, 30_000);
    story.meets_time_wait(other, 30_000);
    story.walk_ends(HERE, None);
    assert_eq!(now(&mut story), (2, 0));
    story.is_gone(old);
    assert_eq!(now(&mut story), (1, 0));
    story.is_gone(old);
    assert_eq!(now(&mut story), (1, 0), "the other one is there still");
}

#[test]
fn a_walk_that_failed_has_met_nothing() {
    let [known, unknown] = [(1, 40_000), (2, 40_001)].map(|(id, port)| Sock::client(id, port));
    let mut story = exact();
    story.now = 2_000 * SECOND + 5_000;
    story.ends_leaving(known, TimeWaitKind::TimeWait);
    story.wait(1);
    story.walk_begins(HERE);
    // By its rounding it seems to end in another second.
    story.meets_time_wait(known, 58_990);
    story.meets_time_wait(unknown, 58_990);
    story.walk_ends(HERE, Some("no such namespace"));
    assert_eq!(now(&mut story), (1, 0));
    story.is_gone(unknown);
    assert_eq!(now(&mut story), (1, 0), "it was never booked");
    story.is_gone(known);
    assert_eq!(now(&mut story), (0, 0));
}

#[test]
fn one_whose_role_is_a_guess_ends_as_well() {
    let sock = Sock::client(1, 40_000);
    for entered_meanwhile in [false, true] {
        let mut story = exact();
        // Its birth was lost.
        story.goes(sock, (Established, FinWait1));
        assert!(story.only_life().role_assumed);
        story.goes(sock, (FinWait1, FinWait2));
        if entered_meanwhile {
            story.walk_begins(HERE);
        }
        story.ends_now_leaving(sock, TimeWaitKind::TimeWait);
        if !entered_meanwhile {
            story.walk_begins(HERE);
        }
        story.meets_time_wait(sock, 59_999);
        story.walk_ends(HERE, None);
        assert_eq!(now(&mut story), (1, 0));
        story.is_gone(sock);
        assert_eq!(now(&mut story), (0, 0), "entered while the walk went on: {entered_meanwhile}");
    }
}

#[test]
fn of_a_full_table_there_is_no_doubt() {
    let full = ORPHAN.with(Flags::TIME_WAIT_FULL).with(Flags::FIN_RECEIVED);
    let mut story = exact();
    // The first one takes a place that has just become free.
    for (id, remains) in [(1, TimeWaitKind::TimeWait), (2, TimeWaitKind::Nothing)] {
        let sock = Sock::client(id, 40_000 + id as u16);
        story.connection(sock, &[SynSent, Established, FinWait1, FinWait2]);
        story.leaves(sock, remains);
        story.ends(sock, FinWait2, full, 0);
    }
    let left: Vec<_> = story.closed.iter().map(|closed| closed.time_wait).collect();
    assert_eq!(left, [Some(true), Some(false)]);
    assert_eq!(booked(&mut story), (1, 1, 1));
}

#[test]
fn the_kernels_count_settles_ends_that_are_still_held() {
    let mut story = Story::after_walks();
    let counted = |story: &mut Story, overflows| {
        story.walk_begins(HERE);
        let (time, mut counts) = (story.now, [0; KERNEL_COUNTERS.len()]);
        counts[KernelCounters::TIME_WAIT_OVERFLOW] = overflows;
        story.tell(Input::ScanEnd(ScanEnd {
            netns: HERE,
            begun: time,
            ended: time,
            error: None,
            ephemeral_ports: None,
            counters: Some(KernelCounters { time, counts }),
        }));
        story.wait_ms(1);
    };
    counted(&mut story, 0);
    for id in 1..=3 {
        let sock = Sock::client(id, 40_000 + id as u16);
        story.connection(sock, &[SynSent, Established, FinWait1, FinWait2]);
        story.ends(sock, FinWait2, ORPHAN.with(Flags::TIME_WAIT_FULL), 0);
    }
    // Data has come for the last one: it was due none.
    story.answers_by_reset(Sock::client(3, 40_003), ResetReason::AbortOnData);
    story.wait_ms(1);
    counted(&mut story, 1);
    assert_eq!(story.closed.len(), 1, "two are held");
    story.wait_ms(50);
    assert_eq!(story.closed.len(), 3);
    let counters = &story.only_row().stats.counters;
    assert_eq!((counters.time_wait_entered, counters.time_wait_overflowed), (1, 1));
}

#[test]
fn where_the_kernel_has_no_memory_for_one_none_is_inferred() {
    let sock = Sock::client(1, 40_000);
    for is_shown in [false, true] {
        let mut story = Story::after_walks();
        if is_shown {
            story = story.exact();
        }
        // The table is not full.
        story.connection(sock, &[SynSent, Established, FinWait1, TcpState::Closing]);
        story.leaves(sock, TimeWaitKind::Nothing);
        story.goes(sock, (TcpState::Closing, Close));
        assert_eq!(story.closed[0].time_wait, Some(!is_shown), "is shown: {is_shown}");
        let expected = if is_shown { (0, 1, 0) } else { (1, 0, 1) };
        assert_eq!(booked(&mut story), expected, "is shown: {is_shown}");
    }
}

#[test]
fn one_whose_entry_was_lost_is_inferred() {
    let sock = Sock::client(1, 40_000);
    let mut story = exact();
    story.connection(sock, &[SynSent, Established, FinWait1, TcpState::Closing]);
    story.loses(Kind::TimeWaitEntry);
    story.goes(sock, (TcpState::Closing, Close));
    assert_eq!(story.closed[0].time_wait, Some(true));
    assert_eq!(booked(&mut story), (1, 0, 1));
    story.is_gone(sock);
    assert_eq!(now(&mut story), (0, 0));
}

#[test]
fn an_orphan_whose_entry_was_lost_is_one_time_wait_when_it_turns() {
    let sock = Sock::client(1, 40_000);
    // Before the minute is over that was inferred, or after it.
    for seconds in [30, 70] {
        let mut story = exact();
        story.connection(sock, &[SynSent, Established, FinWait1, FinWait2]);
        story.loses(Kind::TimeWaitEntry);
        story.ends(sock, FinWait2, ORPHAN, 0);
        story.wait(seconds);
        story.turns(sock);
        stays_until_told(&mut story, sock, &format!("after {seconds} s"));
    }
}

#[test]
fn the_entry_may_be_the_first_that_is_heard_of_a_connection() {
    let sock = Sock::client(1, 40_000);
    for (remains, expected) in [
        (TimeWaitKind::TimeWait, (1, 0)),
        (TimeWaitKind::FinWait2, (0, 1)),
        (TimeWaitKind::Nothing, (0, 0)),
    ] {
        let mut story = Story::new().exact();
        story.ends_now_leaving(sock, remains);
        story.finish();
        assert_eq!(
            story.closed[0].time_wait,
            Some(remains != TimeWaitKind::Nothing),
            "{remains:?}"
        );
        assert_eq!(now(&mut story), expected, "{remains:?}");
    }
}

#[test]
fn an_entry_is_of_the_next_end_and_no_other() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::new().exact();
    // Its end was lost, and so was the birth of the next one.
    story.leaves(sock, TimeWaitKind::FinWait2);
    story.wait(1);
    story.ends(sock, FinWait2, ORPHAN.with(Flags::FIN_RECEIVED), 0);
    assert_eq!(now(&mut story), (1, 0));
}

#[test]
fn without_its_hook_all_of_it_is_inferred() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    story.ends_leaving(sock, TimeWaitKind::Nothing);
    story.wait_ms(50);
    story.turns(sock);
    story.is_gone(sock);
    assert_eq!(now(&mut story), (1, 0));
    assert_eq!(story.closed[0].time_wait, Some(true));
}

#[test]
fn where_there_is_no_room_for_rows_all_of_it_adds_up() {
    let socks = [1, 2, 3].map(|id| Sock::client(id, 40_000 + id as u16));
    let mut story = Story::with(Limits { connections: 10, rows: 0 }).exact();
    for (sock, remains) in socks.into_iter().zip([
        TimeWaitKind::TimeWait,
        TimeWaitKind::FinWait2,
        TimeWaitKind::FinWait2,
    ]) {
        story.ends_leaving(sock, remains);
    }
    assert_eq!(now(&mut story), (1, 2));
    story.turns(socks[1]);
    assert_eq!(now(&mut story), (2, 1));
    socks.into_iter().for_each(|sock| story.is_gone(sock));
    assert_eq!(now(&mut story), (0, 0));
}

#[test]
fn a_filter_lets_in_what_is_left_behind_with_the_rest() {
    let sock = Sock::child(2, 80);
    let filter =
        |network: &str| Filter { remote: vec![network.parse().unwrap()], ..Filter::default() };
    for (network, expected) in [("198.51.100.0/24", (0, 1)), ("10.0.0.0/8", (0, 0))] {
        let mut story = Story::filtered(filter(network)).exact();
        story.connection(sock, &[SynRecv, Established, FinWait1, FinWait2]);
        story.ends_now_leaving(sock, TimeWaitKind::FinWait2);
        assert_eq!(now(&mut story), expected, "{network}");
        let events = story.tracker.events();
        let (delivered, filtered) = if expected == (0, 0) { (0, 6) } else { (6, 0) };
        assert_eq!((events.delivered, events.filtered), (delivered, filtered), "{network}");
        story.turns(sock);
        story.is_gone(sock);
        assert_eq!(now(&mut story), (0, 0), "{network}");
    }
}

#[test]
fn an_entry_is_kept_back_with_the_records_of_its_socket() {
    let (listener, child) = (Sock::listener(1, 80), Sock::child(2, 80));
    let filter = Filter { pids: vec![700], ..Filter::default() };
    let mut story = Story::filtered(filter).exact();
    // Whose it is shows only its last record.
    let birth = Sock { remote: listener.remote, ..child };
    story.goes(birth, (Listen, SynRecv));
    for states in [(SynRecv, Established), (Established, FinWait1), (FinWait1, FinWait2)] {
        story.goes(child, states);
    }
    story.leaves(child, TimeWaitKind::TimeWait);
    story.is_accepted(child);
    assert_eq!(story.tracker.open().count(), 0, "nobody knows whose it is");
    assert_eq!(story.tracker.events().delivered, 0);
    story.listens(listener, "server");
    let end = story.transition(child, (FinWait2, Close));
    story.tell(Input::Transition(Transition { flags: ORPHAN, ..end }));
    assert_eq!(story.reasons(), [CloseReason::ClosedByUs], "as the entry shows at once");
    assert_eq!(story.row(Role::Server, 80).stats.time_wait_now, 1);
    let events = story.tracker.events();
    assert_eq!((events.delivered, events.filtered), (8, 0));
}
