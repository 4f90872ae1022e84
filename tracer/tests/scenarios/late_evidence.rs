//! Evidence after the last record of a connection: in time, late, or missing.

use synfin::{
    tcp::{close_reason::CloseReason, group_by::By, role::Role},
    trace::{event::Input, scan::ScannedSocket},
    tracker::Limits,
};
use synfin_common::{event::Kind, reset::ResetReason::*, state::TcpState::*};
use synfin_testkit::{HERE, ORPHAN, Socket, TracedKernel, address};

const ECONNRESET: u8 = 104;

/// Our application closes; then data or a reset arrives. At first the two look alike.
fn closes_after_data_or_reset(kernel: &mut TracedKernel, sock: Socket) {
    kernel.connection(sock, &[SynSent, Established, FinWait1]);
    kernel.receives_reset(sock);
    kernel.closes(sock, FinWait1, ORPHAN, ECONNRESET);
}

#[test]
fn a_reset_sent_just_after_the_close_decides_the_reason() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    closes_after_data_or_reset(&mut kernel, sock);
    assert_eq!(kernel.reasons(), [], "the close is pending");
    kernel.sends_reset(sock, AbortOnData, true);
    assert_eq!(kernel.reasons(), [CloseReason::ResetByUsDataAfterClose]);
    assert_eq!(kernel.tracker.take_snapshot().tables.pending_closes, 0);
}

#[test]
fn a_pending_close_does_not_delay_other_connections() {
    let (pending, other) = (Socket::client(1, 40_000), Socket::client(2, 40_001));
    let mut kernel = TracedKernel::scanned();
    closes_after_data_or_reset(&mut kernel, pending);
    kernel.closes_simultaneously(other);
    kernel.sends_reset(other, AbortOnData, true);
    assert_eq!(kernel.reasons(), [CloseReason::ClosedByBoth], "not evidence for the first one");
    kernel.sends_reset(pending, AbortOnData, true);
    assert_eq!(kernel.reasons()[1..], [CloseReason::ResetByUsDataAfterClose]);
}

#[test]
fn without_evidence_a_close_is_classified_after_50_ms() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    closes_after_data_or_reset(&mut kernel, sock);
    kernel.wait_ms(48);
    assert_eq!(kernel.reasons(), [], "50 ms have not passed");
    kernel.wait_ms(2);
    assert_eq!(kernel.reasons(), [CloseReason::ResetByPeerClosing]);
    let end = kernel.closed[0].closed;
    assert!(end + 49_000_000 < kernel.now, "the close has the time of its last record");
}

#[test]
fn a_close_stays_pending_while_records_are_in_flight() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    closes_after_data_or_reset(&mut kernel, sock);
    kernel.delays(Kind::ResetSent);
    kernel.wait(1);
    assert_eq!(kernel.reasons(), []);
    kernel.sends_reset(sock, AbortOnData, true);
    assert_eq!(kernel.reasons(), [CloseReason::ResetByUsDataAfterClose]);
}

#[test]
fn a_much_younger_record_classifies_a_pending_close() {
    let (sock, other) = (Socket::client(1, 40_000), Socket::client(2, 40_001));
    let mut kernel = TracedKernel::scanned();
    closes_after_data_or_reset(&mut kernel, sock);
    kernel.counters.seen[Kind::Step as usize] += 1_000;
    kernel.now += 15_000_000;
    kernel.moves(other, (Close, SynSent));
    kernel.wait(1);
    assert_eq!(kernel.reasons(), [], "another CPU's records may be late");
    kernel.moves(other, (SynSent, Established));
    assert_eq!(kernel.reasons(), [CloseReason::ResetByPeerClosing]);
}

#[test]
fn evidence_after_classification_is_ignored() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.closes_actively(sock);
    kernel.wait_ms(50);
    assert_eq!(kernel.reasons(), [CloseReason::ClosedByUs]);
    kernel.sends_reset(sock, AbortOnData, true);
    assert_eq!(kernel.reasons(), [CloseReason::ClosedByUs]);
    let row = kernel.only_row();
    assert_eq!((row.stats.counters.time_wait_entered, row.stats.time_wait_now), (1, 1));
    assert_eq!((row.stats.gauges.open, row.stats.counters.closed()), (0, 1));
    let events = kernel.tracker.events();
    assert_eq!((events.gaps, events.filtered), (0, 0));
}

#[test]
fn a_connection_with_a_pending_close_counts_as_open() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.closes_actively(sock);
    let snapshot = kernel.tracker.take_snapshot();
    assert_eq!((snapshot.tables.connections, snapshot.tables.pending_closes), (0, 1));
    let rows = snapshot.rows(By::Port);
    assert_eq!((rows[0].stats.gauges.open, rows[0].stats.counters.closed()), (1, 0));
    kernel.wait_ms(50);
    let rows = kernel.tracker.take_snapshot().rows(By::Port);
    assert_eq!((rows[0].stats.gauges.open, rows[0].stats.counters.closed()), (0, 1));
    assert_eq!(rows[0].stats.gauges_at_start.open, 1);
}

#[test]
fn reusing_a_socket_classifies_its_pending_close() {
    let first = Socket::client(1, 40_000);
    let second = Socket { local: address("192.0.2.1:40001"), ..first };
    let third = Socket::listener(1, 80);
    for reused_as in ["a connection", "a listener", "found by a scan"] {
        let mut kernel = TracedKernel::scanned();
        kernel.closes_actively(first);
        match reused_as {
            "a connection" => kernel.connection(second, &[SynSent]),
            "a listener" => kernel.listens(third, "server"),
            _ => {
                kernel.scan_begins(HERE);
                kernel.scan_finds_time_wait(first, 59_999);
                let found = second.scanned(Established);
                kernel.report(Input::ScannedSocket(ScannedSocket { time: kernel.now, ..found }));
                kernel.scan_ends(HERE);
            }
        }
        assert_eq!(kernel.reasons(), [CloseReason::ClosedByUs], "{reused_as}");
        // The reset belongs to the socket that reuses the address.
        kernel.sends_reset(first, AbortOnData, true);
        assert_eq!(kernel.reasons(), [CloseReason::ClosedByUs], "{reused_as}");
        assert_eq!(
            kernel.rows().iter().map(|row| row.stats.time_wait_now).sum::<u64>(),
            1,
            "{reused_as}"
        );
    }
}

#[test]
fn each_close_of_a_reused_socket_waits_for_its_own_evidence() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.closes_actively(sock);
    kernel.wait_ms(30);
    // It connects again, and also closes before the first close has been classified.
    kernel.closes_actively(sock);
    assert_eq!(kernel.reasons(), [CloseReason::ClosedByUs]);
    kernel.wait_ms(30);
    assert_eq!(kernel.reasons().len(), 1, "50 ms have not passed for the second one");
    kernel.sends_reset(sock, AbortOnData, true);
    assert_eq!(kernel.reasons()[1..], [CloseReason::ResetByUsDataAfterClose]);
}

#[test]
fn finishing_the_trace_classifies_all_pending_closes() {
    let mut kernel = TracedKernel::scanned();
    for id in 1..=3 {
        kernel.closes_actively(Socket::client(id, 40_000 + id as u16));
    }
    assert_eq!(kernel.reasons(), []);
    kernel.finish();
    assert_eq!(kernel.reasons(), [CloseReason::ClosedByUs; 3]);
    let snapshot = kernel.tracker.take_snapshot();
    assert_eq!(
        (snapshot.tables.pending_closes, snapshot.rows(By::Port)[0].stats.counters.closed()),
        (0, 3)
    );
}

#[test]
fn late_evidence_revokes_a_time_wait() {
    let sock = Socket::client(1, 40_000);
    for rows in [0, 10] {
        let mut kernel = TracedKernel::with_limits(Limits { connections: 10, rows });
        kernel.closes_actively(sock);
        kernel.sends_reset(sock, AbortOnData, true);
        assert_eq!(kernel.reasons(), [CloseReason::ResetByUsDataAfterClose]);
        assert_eq!(kernel.closed[0].time_wait, Some(false));
        let row = kernel.only_row();
        assert_eq!(
            (row.stats.counters.time_wait_entered, row.stats.time_wait_now),
            (0, 0),
            "{rows} rows"
        );
        assert_eq!(row.stats.time_wait_peak, 0, "there was no TIME_WAIT, with {rows} rows");
    }
}

#[test]
fn a_time_wait_counts_in_the_peak_of_its_interval() {
    let mut kernel = TracedKernel::scanned();
    for id in 1..=3 {
        kernel.closes_actively(Socket::client(id, 40_000 + id as u16));
    }
    kernel.wait_ms(50);
    kernel.wait(100);
    let row = kernel.only_row();
    assert_eq!(
        (row.stats.time_wait_now, row.stats.time_wait_peak, row.stats.counters.time_wait_entered),
        (0, 3, 3)
    );
}

#[test]
fn late_evidence_revokes_a_time_wait_during_a_scan() {
    let (sock, other) = (Socket::client(1, 40_000), Socket::client(2, 40_001));
    let mut kernel = TracedKernel::scanned();
    kernel.scan_begins(HERE);
    kernel.closes_actively(sock);
    kernel.closes_simultaneously(other);
    kernel.sends_reset(sock, AbortOnData, true);
    kernel.scan_ends(HERE);
    let row = kernel.only_row();
    assert_eq!((row.stats.counters.time_wait_entered, row.stats.time_wait_now), (1, 1));

    // It closed before the scan began, and the evidence arrives during the scan.
    let third = Socket::client(3, 40_002);
    kernel.closes_actively(third);
    kernel.scan_begins(HERE);
    kernel.scan_finds_time_wait(other, 59_000);
    kernel.sends_reset(third, AbortOnData, true);
    kernel.scan_ends(HERE);
    let row = kernel.only_row();
    assert_eq!((row.stats.counters.time_wait_entered, row.stats.time_wait_now), (0, 1));
}

#[test]
fn late_evidence_revokes_a_time_wait_of_unknown_role() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    // Its first record was lost.
    kernel.moves(sock, (Established, FinWait1));
    // No scan comes that could decide its role.
    kernel.wait(10);
    assert_eq!(kernel.only_connection().role, Role::Unknown);
    kernel.moves(sock, (FinWait1, FinWait2));
    kernel.closes(sock, FinWait2, ORPHAN, 0);
    kernel.sends_reset(sock, AbortOnData, true);
    assert_eq!(kernel.reasons(), [CloseReason::ResetByUsDataAfterClose]);
    assert_eq!(kernel.only_row().stats.time_wait_now, 0);
}

#[test]
fn with_too_many_pending_closes_the_oldest_is_classified() {
    /// Maximum number of pending closes.
    const LIMIT: u64 = 1 << 16;
    let mut kernel = TracedKernel::scanned();
    for id in 0..=LIMIT {
        // All within 50 ms.
        kernel.now = 2_000_000_000_000;
        let sock = Socket {
            local: ([10, 0, (id >> 8) as u8, id as u8], 40_000).into(),
            ..Socket::client(id + 1, 0)
        };
        kernel.moves(sock, (Close, SynSent));
        kernel.closes(sock, FinWait2, ORPHAN, 0);
    }
    assert_eq!(kernel.reasons(), [CloseReason::ClosedByUs], "the oldest");
}
