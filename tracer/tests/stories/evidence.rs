//! Evidence that comes after the last record of a connection: in time, late, or never.

use synfin::{
    tcp::{close_reason::CloseReason, group_by::By},
    trace::{
        event::{Closing, Input, Reset, ResetDirection, Transition},
        scan::ScannedSocket,
    },
    tracker::Limits,
};
use synfin_common::{
    event::Flags,
    reset::ResetReason::{self, *},
    state::TcpState::{self, *},
};

use crate::story::{HERE, Sock, Story, at};

/// An orphan: closed, and nobody holds it any more.
const ORPHAN: Flags = Flags::DEAD.with(Flags::SHUT_READ).with(Flags::SHUT_WRITE);

const ECONNRESET: u8 = 104;

impl Story {
    /// A reset is sent for the socket, or arrived for it.
    fn resets(&mut self, sock: Sock, way: ResetDirection) {
        self.tell(Input::Reset(Reset { time: self.now, sock: sock.id, direction: way }));
    }

    pub(crate) fn answers_by_reset(&mut self, sock: Sock, reason: ResetReason) {
        self.resets(sock, ResetDirection::Sent { reason, answer: true });
    }

    /// Its last record, with this evidence.
    pub(crate) fn ends(&mut self, sock: Sock, old: TcpState, flags: Flags, err: u8) {
        let closing = Closing { bytes_acked: 0, bytes_received: 0, unread: 0, idle_ms: None };
        let end = self.transition(sock, (old, Close));
        self.tell(Input::Transition(Transition { flags, err, closing: Some(closing), ..end }));
    }

    /// Closed by our application, up to FIN_WAIT2; and then the kernel says CLOSE, with a
    /// TIME_WAIT, or because data came with the ACK of our FIN.
    pub(crate) fn ends_as_if_by_us(&mut self, sock: Sock) {
        self.connection(sock, &[SynSent, Established, FinWait1, FinWait2]);
        self.ends(sock, FinWait2, ORPHAN, 0);
    }

    /// Closed by our application; then data comes, or a reset: which looks alike at first.
    fn ends_after_data_or_reset(&mut self, sock: Sock) {
        self.connection(sock, &[SynSent, Established, FinWait1]);
        self.resets(sock, ResetDirection::Received);
        self.ends(sock, FinWait1, ORPHAN, ECONNRESET);
    }
}

#[test]
fn what_the_kernel_answers_in_the_same_breath_decides() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    story.ends_after_data_or_reset(sock);
    assert_eq!(story.reasons(), [], "it is held");
    story.answers_by_reset(sock, AbortOnData);
    assert_eq!(story.reasons(), [CloseReason::ResetByUsDataAfterClose]);
    assert_eq!(story.tracker.take_snapshot().tables.settling, 0);
}

#[test]
fn other_connections_do_not_wait_for_what_is_held() {
    let (held, other) = (Sock::client(1, 40_000), Sock::client(2, 40_001));
    let mut story = Story::after_walks();
    story.ends_after_data_or_reset(held);
    story.ends_in_time_wait(other);
    story.answers_by_reset(other, AbortOnData);
    assert_eq!(story.reasons(), [CloseReason::ClosedByBoth], "it is no evidence of the first one");
    story.answers_by_reset(held, AbortOnData);
    assert_eq!(story.reasons()[1..], [CloseReason::ResetByUsDataAfterClose]);
}

#[test]
fn without_evidence_an_end_is_settled_after_a_moment() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    story.ends_after_data_or_reset(sock);
    story.wait_ms(48);
    assert_eq!(story.reasons(), [], "50 ms are not over");
    story.wait_ms(2);
    assert_eq!(story.reasons(), [CloseReason::ResetByPeerClosing]);
    let end = story.closed[0].closed;
    assert!(end + 49_000_000 < story.now, "it ended when it did, not when that was settled");
}

#[test]
fn so_long_as_records_are_on_their_way_time_does_not_settle_an_end() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    story.ends_after_data_or_reset(sock);
    // Five records, and the evidence is the sixth.
    story.has_seen(6);
    story.wait(1);
    assert_eq!(story.reasons(), []);
    story.answers_by_reset(sock, AbortOnData);
    assert_eq!(story.reasons(), [CloseReason::ResetByUsDataAfterClose]);
}

#[test]
fn a_record_that_is_much_younger_shows_that_no_evidence_comes() {
    let (sock, other) = (Sock::client(1, 40_000), Sock::client(2, 40_001));
    let mut story = Story::after_walks();
    story.ends_after_data_or_reset(sock);
    story.has_seen(u64::MAX);
    story.now += 15_000_000;
    story.goes(other, (Close, SynSent));
    story.wait(1);
    assert_eq!(story.reasons(), [], "the processor may have been taken away in between");
    story.goes(other, (SynSent, Established));
    assert_eq!(story.reasons(), [CloseReason::ResetByPeerClosing]);
}

#[test]
fn evidence_that_comes_late_does_no_harm() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    story.ends_as_if_by_us(sock);
    story.wait_ms(50);
    assert_eq!(story.reasons(), [CloseReason::ClosedByUs]);
    story.answers_by_reset(sock, AbortOnData);
    assert_eq!(story.reasons(), [CloseReason::ClosedByUs]);
    let row = story.only_row();
    assert_eq!((row.stats.counters.time_wait_entered, row.stats.time_wait_now), (1, 1));
    assert_eq!((row.stats.gauges.open, row.stats.counters.closed()), (0, 1));
    let events = story.tracker.events();
    assert_eq!((events.gaps, events.filtered), (0, 0));
}

#[test]
fn while_it_is_held_a_connection_is_shown_as_open() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    story.ends_as_if_by_us(sock);
    let cut = story.tracker.take_snapshot();
    assert_eq!((cut.tables.connections, cut.tables.settling), (0, 1));
    let cut = cut.rows(By::Port);
    assert_eq!((cut[0].stats.gauges.open, cut[0].stats.counters.closed()), (1, 0));
    story.wait_ms(50);
    let cut = story.tracker.take_snapshot().rows(By::Port);
    assert_eq!((cut[0].stats.gauges.open, cut[0].stats.counters.closed()), (0, 1));
    assert_eq!(cut[0].stats.gauges_at_start.open, 1);
}

#[test]
fn a_socket_that_is_used_anew_settles_its_last_end() {
    let first = Sock::client(1, 40_000);
    let second = Sock { local: at("192.0.2.1:40001"), ..first };
    let third = Sock::listener(1, 80);
    for anew in ["a connection", "a listener", "met by a walk"] {
        let mut story = Story::after_walks();
        story.ends_as_if_by_us(first);
        match anew {
            "a connection" => story.connection(second, &[SynSent]),
            "a listener" => story.listens(third, "server"),
            _ => {
                story.walk_begins(HERE);
                story.meets_time_wait(first, 59_999);
                let met = second.met_in(Established);
                story.tell(Input::ScannedSocket(ScannedSocket { time: story.now, ..met }));
                story.walk_ends(HERE, None);
            }
        }
        assert_eq!(story.reasons(), [CloseReason::ClosedByUs], "{anew}");
        // Whatever it is sent for, it is not the first one.
        story.answers_by_reset(first, AbortOnData);
        assert_eq!(story.reasons(), [CloseReason::ClosedByUs], "{anew}");
        assert_eq!(
            story.rows().iter().map(|row| row.stats.time_wait_now).sum::<u64>(),
            1,
            "{anew}"
        );
    }
}

#[test]
fn every_end_of_a_socket_waits_for_itself() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    story.ends_as_if_by_us(sock);
    story.wait_ms(30);
    // It connects again, and this one ends as well before the first one would have been settled.
    story.ends_as_if_by_us(sock);
    assert_eq!(story.reasons(), [CloseReason::ClosedByUs]);
    story.wait_ms(30);
    assert_eq!(story.reasons().len(), 1, "50 ms are not over for the second one");
    story.answers_by_reset(sock, AbortOnData);
    assert_eq!(story.reasons()[1..], [CloseReason::ResetByUsDataAfterClose]);
}

#[test]
fn the_end_of_the_trace_settles_all() {
    let mut story = Story::after_walks();
    for id in 1..=3 {
        story.ends_as_if_by_us(Sock::client(id, 40_000 + id as u16));
    }
    assert_eq!(story.reasons(), []);
    story.finish();
    assert_eq!(story.reasons(), [CloseReason::ClosedByUs; 3]);
    let cut = story.tracker.take_snapshot();
    assert_eq!((cut.tables.settling, cut.rows(By::Port)[0].stats.counters.closed()), (0, 3));
}

#[test]
fn a_time_wait_is_taken_back_by_evidence() {
    let sock = Sock::client(1, 40_000);
    for rows in [0, 10] {
        let mut story = Story::with(Limits { connections: 10, rows });
        story.ends_as_if_by_us(sock);
        story.answers_by_reset(sock, AbortOnData);
        assert_eq!(story.reasons(), [CloseReason::ResetByUsDataAfterClose]);
        assert_eq!(story.closed[0].time_wait, Some(false));
        let row = story.only_row();
        assert_eq!(
            (row.stats.counters.time_wait_entered, row.stats.time_wait_now),
            (0, 0),
            "{rows} rows"
        );
        assert_eq!(row.stats.time_wait_peak, 0, "there never was one, with {rows} rows");
    }
}

#[test]
fn a_time_wait_that_was_there_is_in_the_peak_of_its_interval() {
    let mut story = Story::after_walks();
    for id in 1..=3 {
        story.ends_as_if_by_us(Sock::client(id, 40_000 + id as u16));
    }
    story.wait_ms(50);
    story.wait(100);
    let row = story.only_row();
    assert_eq!(
        (row.stats.time_wait_now, row.stats.time_wait_peak, row.stats.counters.time_wait_entered),
        (0, 3, 3)
    );
}

#[test]
fn a_time_wait_is_taken_back_while_a_walk_goes_on() {
    let (sock, other) = (Sock::client(1, 40_000), Sock::client(2, 40_001));
    let mut story = Story::after_walks();
    story.walk_begins(HERE);
    story.ends_as_if_by_us(sock);
    story.ends_in_time_wait(other);
    story.answers_by_reset(sock, AbortOnData);
    story.walk_ends(HERE, None);
    let row = story.only_row();
    assert_eq!((row.stats.counters.time_wait_entered, row.stats.time_wait_now), (1, 1));

    // It ended before the scan began, and the evidence comes during it.
    let third = Sock::client(3, 40_002);
    story.ends_as_if_by_us(third);
    story.walk_begins(HERE);
    story.meets_time_wait(other, 59_000);
    story.answers_by_reset(third, AbortOnData);
    story.walk_ends(HERE, None);
    let row = story.only_row();
    assert_eq!((row.stats.counters.time_wait_entered, row.stats.time_wait_now), (0, 1));
}

#[test]
fn a_time_wait_of_one_whose_role_is_a_guess_is_taken_back_too() {
    let sock = Sock::client(1, 40_000);
    let mut story = Story::after_walks();
    // Its birth was lost.
    story.goes(sock, (Established, FinWait1));
    assert!(story.only_life().role_assumed);
    story.goes(sock, (FinWait1, FinWait2));
    story.ends(sock, FinWait2, ORPHAN, 0);
    story.answers_by_reset(sock, AbortOnData);
    assert_eq!(story.reasons(), [CloseReason::ResetByUsDataAfterClose]);
    assert_eq!(story.only_row().stats.time_wait_now, 0);
}

#[test]
fn too_many_ends_to_hold_are_settled_by_what_is_known() {
    /// As many as are held.
    const LIMIT: u64 = 1 << 16;
    let mut story = Story::after_walks();
    for id in 0..=LIMIT {
        // All within one moment.
        story.now = 2_000_000_000_000;
        let sock = Sock {
            local: ([10, 0, (id >> 8) as u8, id as u8], 40_000).into(),
            ..Sock::client(id + 1, 0)
        };
        story.goes(sock, (FinWait1, FinWait2));
        story.ends(sock, FinWait2, ORPHAN, 0);
    }
    assert_eq!(story.reasons(), [CloseReason::ClosedByUs], "the oldest");
}
