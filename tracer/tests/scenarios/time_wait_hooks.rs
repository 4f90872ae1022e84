//! TIME_WAITs and orphans in FIN_WAIT2 with the optional hook that reports their entry and exit.

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
use synfin_testkit::{HERE, ORPHAN, SECOND, Socket, TracedKernel};

fn exact() -> TracedKernel {
    TracedKernel::scanned().with_all_hooks()
}

/// Number of TIME_WAITs and of orphans in FIN_WAIT2.
fn now(kernel: &mut TracedKernel) -> (u64, u64) {
    let rows = kernel.tracker.take_snapshot().rows(By::Port);
    let now = rows.iter().map(|row| (row.stats.time_wait_now, row.stats.scanned.fin_wait2_orphans));
    now.fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1))
}

/// Checks that there is one TIME_WAIT until its exit is reported.
fn stays_until_exit(kernel: &mut TracedKernel, sock: Socket, case: &str) {
    assert_eq!(now(kernel), (1, 0), "{case}");
    kernel.wait(60);
    assert_eq!(now(kernel), (1, 0), "{case}");
    kernel.time_wait_ends(sock);
    assert_eq!(now(kernel), (0, 0), "{case}");
}

/// TIME_WAITs entered, TIME_WAITs without room in the table, and present TIME_WAITs.
fn time_wait_counts(kernel: &mut TracedKernel) -> (u64, u64, u64) {
    let row = kernel.only_row();
    let counters = &row.stats.counters;
    (counters.time_wait_entered, counters.time_wait_overflowed, row.stats.time_wait_now)
}

/// Our application closes the connection, which leaves this kind.
fn closes_leaving(kernel: &mut TracedKernel, sock: Socket, kind: TimeWaitKind) {
    kernel.connection(sock, &[SynSent, Established, FinWait1, FinWait2]);
    closes_now_leaving(kernel, sock, kind);
}

fn closes_now_leaving(kernel: &mut TracedKernel, sock: Socket, kind: TimeWaitKind) {
    kernel.enters_time_wait(sock, kind);
    kernel.closes(sock, FinWait2, ORPHAN, 0);
}

#[test]
fn an_orphan_in_fin_wait2_becomes_a_time_wait_when_the_peer_closes() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = exact();
    closes_leaving(&mut kernel, sock, TimeWaitKind::FinWait2);
    assert_eq!(kernel.reasons(), [CloseReason::ClosedByUs], "it waits for no reset");
    assert_eq!(kernel.closed[0].time_wait, Some(true));
    assert_eq!(now(&mut kernel), (0, 1));
    kernel.wait(50);
    kernel.leaves_fin_wait2(sock);
    assert_eq!(now(&mut kernel), (1, 0));
    // The minute of the TIME_WAIT begins here.
    kernel.wait(59);
    assert_eq!(now(&mut kernel), (1, 0));
    kernel.time_wait_ends(sock);
    assert_eq!(now(&mut kernel), (0, 0));
}

#[test]
fn an_orphan_in_fin_wait2_may_end_without_a_fin() {
    let [in_vain, other] = [(1, 40_000), (2, 40_001)].map(|(id, port)| Socket::client(id, port));
    for scanned in [false, true] {
        let mut kernel = exact();
        closes_leaving(&mut kernel, in_vain, TimeWaitKind::FinWait2);
        closes_leaving(&mut kernel, other, TimeWaitKind::FinWait2);
        if scanned {
            kernel.scan_begins(HERE);
            kernel.scan_finds_timewait_socket(in_vain, true, 59_000);
            kernel.scan_finds_timewait_socket(other, true, 59_000);
            kernel.scan_ends(HERE);
        }
        assert_eq!(now(&mut kernel), (0, 2));
        kernel.time_wait_ends(in_vain);
        assert_eq!(now(&mut kernel), (0, 1), "scanned: {scanned}");
        kernel.leaves_fin_wait2(other);
        assert_eq!(now(&mut kernel), (1, 0), "scanned: {scanned}");
    }
}

#[test]
fn a_time_wait_lasts_until_its_exit_is_reported() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = exact();
    closes_leaving(&mut kernel, sock, TimeWaitKind::TimeWait);
    // The kernel's timers are late.
    kernel.wait(65);
    assert_eq!(now(&mut kernel), (1, 0));
    kernel.time_wait_ends(sock);
    assert_eq!(now(&mut kernel), (0, 0));
    kernel.time_wait_ends(sock);
    assert_eq!(now(&mut kernel), (0, 0), "it ends only once");
}

#[test]
fn a_time_wait_whose_exit_was_lost_expires() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = exact();
    closes_leaving(&mut kernel, sock, TimeWaitKind::TimeWait);
    kernel.loses(Kind::TimeWaitExit);
    kernel.tick();
    kernel.wait(67);
    assert_eq!(now(&mut kernel), (1, 0));
    kernel.wait(2);
    assert_eq!(now(&mut kernel), (0, 0));
}

#[test]
fn a_time_wait_exit_during_a_scan_counts() {
    let [first, other] = [(1, 40_000), (2, 40_001)].map(|(id, port)| Socket::client(id, port));
    for (is_found, kind) in [
        (false, TimeWaitKind::TimeWait),
        (true, TimeWaitKind::TimeWait),
        (false, TimeWaitKind::FinWait2),
        (true, TimeWaitKind::FinWait2),
    ] {
        let is_orphan = kind == TimeWaitKind::FinWait2;
        let expected = if is_orphan { (0, 1) } else { (1, 0) };
        let mut kernel = exact();
        closes_leaving(&mut kernel, first, kind);
        closes_leaving(&mut kernel, other, kind);
        kernel.scan_begins(HERE);
        kernel.time_wait_ends(first);
        assert_eq!(now(&mut kernel), expected, "during the scan");
        if is_found {
            kernel.scan_finds_timewait_socket(first, is_orphan, 59_999);
        }
        kernel.scan_finds_timewait_socket(other, is_orphan, 59_999);
        kernel.scan_ends(HERE);
        assert_eq!(now(&mut kernel), expected, "found: {is_found}, {kind:?}");
        kernel.time_wait_ends(other);
        assert_eq!(now(&mut kernel), (0, 0), "found: {is_found}, {kind:?}");
    }
}

#[test]
fn leaving_fin_wait2_during_a_scan_counts() {
    let sock = Socket::client(1, 40_000);
    for (entered_during_scan, is_found_as) in
        [(false, Some(true)), (false, Some(false)), (true, None), (true, Some(true))]
    {
        let mut kernel = exact();
        if entered_during_scan {
            kernel.scan_begins(HERE);
        }
        closes_leaving(&mut kernel, sock, TimeWaitKind::FinWait2);
        if !entered_during_scan {
            kernel.scan_begins(HERE);
        }
        kernel.leaves_fin_wait2(sock);
        assert_eq!(now(&mut kernel), (1, 0));
        if let Some(fin_wait2) = is_found_as {
            kernel.scan_finds_timewait_socket(sock, fin_wait2, 59_999);
        }
        kernel.scan_ends(HERE);
        stays_until_exit(&mut kernel, sock, &format!("{entered_during_scan} {is_found_as:?}"));
    }
}

#[test]
fn a_time_wait_that_ends_during_the_scan_is_gone() {
    let sock = Socket::client(1, 40_000);
    for is_found in [false, true] {
        let mut kernel = exact();
        kernel.scan_begins(HERE);
        closes_leaving(&mut kernel, sock, TimeWaitKind::TimeWait);
        kernel.time_wait_ends(sock);
        if is_found {
            kernel.scan_finds_time_wait(sock, 59_999);
        }
        kernel.scan_ends(HERE);
        let row = kernel.only_row();
        assert_eq!(
            (row.stats.time_wait_now, row.stats.time_wait_peak),
            (0, 1),
            "found: {is_found}"
        );
        assert_eq!(row.stats.counters.time_wait_entered, 1);
    }
}

#[test]
fn a_second_time_wait_at_the_same_endpoints_is_separate() {
    let first = Socket::client(1, 40_000);
    let again = Socket { id: 2, ..first };
    let mut kernel = exact();
    closes_leaving(&mut kernel, first, TimeWaitKind::TimeWait);
    kernel.wait(50);
    kernel.scan_begins(HERE);
    // The scan visits it; then the port is reused.
    kernel.time_wait_ends(first);
    closes_leaving(&mut kernel, again, TimeWaitKind::TimeWait);
    kernel.scan_finds_time_wait(first, 10_000);
    kernel.scan_ends(HERE);
    assert_eq!(now(&mut kernel), (1, 0));
    kernel.wait(40);
    assert_eq!(now(&mut kernel), (1, 0), "it lasts for a minute of its own");
    kernel.time_wait_ends(again);
    assert_eq!(now(&mut kernel), (0, 0));
}

#[test]
fn a_time_wait_found_before_its_close_is_counted_once() {
    let sock = Socket::client(1, 40_000);
    for is_shown in [false, true] {
        let mut kernel = TracedKernel::scanned();
        if is_shown {
            kernel = kernel.with_all_hooks();
        }
        kernel.connection(sock, &[SynSent, Established, FinWait1, TcpState::Closing]);
        kernel.scan_begins(HERE);
        kernel.scan_finds_time_wait(sock, 59_999);
        kernel.scan_ends(HERE);
        if is_shown {
            kernel.enters_time_wait(sock, TimeWaitKind::TimeWait);
        }
        kernel.moves(sock, (TcpState::Closing, Close));
        assert_eq!(now(&mut kernel), (1, 0), "shown: {is_shown}");
    }
}

#[test]
fn a_time_wait_older_than_the_trace_may_end_early() {
    let [old, other] = [(1, 40_000), (2, 40_001)].map(|(id, port)| Socket::client(id, port));
    let mut kernel = TracedKernel::traced().with_all_hooks();
    kernel.scan_begins(HERE);
    kernel.scan_finds_time_wait(old, 30_000);
    kernel.scan_finds_time_wait(other, 30_000);
    kernel.scan_ends(HERE);
    assert_eq!(now(&mut kernel), (2, 0));
    kernel.time_wait_ends(old);
    assert_eq!(now(&mut kernel), (1, 0));
    kernel.time_wait_ends(old);
    assert_eq!(now(&mut kernel), (1, 0), "the other one remains");
}

#[test]
fn time_waits_found_by_a_failed_scan_are_ignored() {
    let [known, unknown] = [(1, 40_000), (2, 40_001)].map(|(id, port)| Socket::client(id, port));
    let mut kernel = exact();
    kernel.now = 2_000 * SECOND + 5_000;
    closes_leaving(&mut kernel, known, TimeWaitKind::TimeWait);
    kernel.wait(1);
    kernel.scan_begins(HERE);
    // Rounding makes its expiry fall into another second.
    kernel.scan_finds_time_wait(known, 58_990);
    kernel.scan_finds_time_wait(unknown, 58_990);
    kernel.scan_fails(HERE);
    assert_eq!(now(&mut kernel), (1, 0));
    kernel.time_wait_ends(unknown);
    assert_eq!(now(&mut kernel), (1, 0), "it was never counted");
    kernel.time_wait_ends(known);
    assert_eq!(now(&mut kernel), (0, 0));
}

#[test]
fn a_time_wait_of_unknown_role_ends() {
    let sock = Socket::client(1, 40_000);
    for entered_during_scan in [false, true] {
        let mut kernel = exact();
        // Its first record was lost.
        kernel.moves(sock, (Established, FinWait1));
        kernel.wait(10);
        assert_eq!(kernel.only_connection().role, Role::Unknown);
        kernel.moves(sock, (FinWait1, FinWait2));
        if entered_during_scan {
            kernel.scan_begins(HERE);
        }
        closes_now_leaving(&mut kernel, sock, TimeWaitKind::TimeWait);
        if !entered_during_scan {
            kernel.scan_begins(HERE);
        }
        kernel.scan_finds_time_wait(sock, 59_999);
        kernel.scan_ends(HERE);
        assert_eq!(now(&mut kernel), (1, 0));
        kernel.time_wait_ends(sock);
        assert_eq!(now(&mut kernel), (0, 0), "entered during the scan: {entered_during_scan}");
    }
}

#[test]
fn with_its_hook_a_full_time_wait_table_is_exact() {
    let full = ORPHAN.with(Flags::TIME_WAIT_FULL).with(Flags::FIN_RECEIVED);
    let mut kernel = exact();
    // The first one takes an entry that has just become free.
    for (id, kind) in [(1, TimeWaitKind::TimeWait), (2, TimeWaitKind::Nothing)] {
        let sock = Socket::client(id, 40_000 + id as u16);
        kernel.connection(sock, &[SynSent, Established, FinWait1, FinWait2]);
        kernel.enters_time_wait(sock, kind);
        kernel.closes(sock, FinWait2, full, 0);
    }
    let left: Vec<_> = kernel.closed.iter().map(|closed| closed.time_wait).collect();
    assert_eq!(left, [Some(true), Some(false)]);
    assert_eq!(time_wait_counts(&mut kernel), (1, 1, 1));
}

#[test]
fn the_overflow_counter_of_the_kernel_decides_pending_closes() {
    let mut kernel = TracedKernel::scanned();
    let counted = |kernel: &mut TracedKernel, overflows| {
        kernel.scan_begins(HERE);
        let (time, mut counts) = (kernel.now, [0; KERNEL_COUNTERS.len()]);
        counts[KernelCounters::TIME_WAIT_OVERFLOW] = overflows;
        kernel.report(Input::ScanEnd(ScanEnd {
            netns: HERE,
            started: time,
            ended: time,
            error: None,
            ephemeral_ports: None,
            counters: Some(KernelCounters { time, counts }),
        }));
        kernel.wait_ms(1);
    };
    counted(&mut kernel, 0);
    for id in 1..=3 {
        let sock = Socket::client(id, 40_000 + id as u16);
        kernel.connection(sock, &[SynSent, Established, FinWait1, FinWait2]);
        kernel.closes(sock, FinWait2, ORPHAN.with(Flags::TIME_WAIT_FULL), 0);
    }
    // Data has arrived for the last one, so it should leave none.
    kernel.sends_reset(Socket::client(3, 40_003), ResetReason::AbortOnData, true);
    kernel.wait_ms(1);
    counted(&mut kernel, 1);
    assert_eq!(kernel.closed.len(), 1, "two closes are pending");
    kernel.wait_ms(50);
    assert_eq!(kernel.closed.len(), 3);
    let counters = &kernel.only_row().stats.counters;
    assert_eq!((counters.time_wait_entered, counters.time_wait_overflowed), (1, 1));
}

#[test]
fn with_its_hook_a_time_wait_without_memory_is_not_inferred() {
    let sock = Socket::client(1, 40_000);
    for is_shown in [false, true] {
        let mut kernel = TracedKernel::scanned();
        if is_shown {
            kernel = kernel.with_all_hooks();
        }
        // The table is not full.
        kernel.connection(sock, &[SynSent, Established, FinWait1, TcpState::Closing]);
        kernel.enters_time_wait(sock, TimeWaitKind::Nothing);
        kernel.moves(sock, (TcpState::Closing, Close));
        assert_eq!(kernel.closed[0].time_wait, Some(!is_shown), "shown: {is_shown}");
        let expected = if is_shown { (0, 1, 0) } else { (1, 0, 1) };
        assert_eq!(time_wait_counts(&mut kernel), expected, "shown: {is_shown}");
    }
}

#[test]
fn a_time_wait_whose_entry_was_lost_is_inferred() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = exact();
    kernel.connection(sock, &[SynSent, Established, FinWait1, TcpState::Closing]);
    kernel.loses(Kind::TimeWaitEntry);
    kernel.tick();
    kernel.moves(sock, (TcpState::Closing, Close));
    assert_eq!(kernel.closed[0].time_wait, Some(true));
    assert_eq!(time_wait_counts(&mut kernel), (1, 0, 1));
    kernel.time_wait_ends(sock);
    assert_eq!(now(&mut kernel), (0, 0));
}

#[test]
fn an_orphan_whose_entry_was_lost_becomes_one_time_wait() {
    let sock = Socket::client(1, 40_000);
    // Before or after the end of the inferred minute.
    for seconds in [30, 70] {
        let mut kernel = exact();
        kernel.connection(sock, &[SynSent, Established, FinWait1, FinWait2]);
        kernel.loses(Kind::TimeWaitEntry);
        kernel.tick();
        kernel.closes(sock, FinWait2, ORPHAN, 0);
        kernel.wait(seconds);
        kernel.leaves_fin_wait2(sock);
        stays_until_exit(&mut kernel, sock, &format!("after {seconds} s"));
    }
}

#[test]
fn a_time_wait_entry_may_be_the_first_record_of_a_connection() {
    let sock = Socket::client(1, 40_000);
    for (kind, expected) in [
        (TimeWaitKind::TimeWait, (1, 0)),
        (TimeWaitKind::FinWait2, (0, 1)),
        (TimeWaitKind::Nothing, (0, 0)),
    ] {
        let mut kernel = TracedKernel::traced().with_all_hooks();
        closes_now_leaving(&mut kernel, sock, kind);
        kernel.finish();
        assert_eq!(kernel.closed[0].time_wait, Some(kind != TimeWaitKind::Nothing), "{kind:?}");
        assert_eq!(now(&mut kernel), expected, "{kind:?}");
    }
}

#[test]
fn a_time_wait_entry_belongs_to_the_next_close_only() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::traced().with_all_hooks();
    kernel.scan(HERE, &[]);
    // Its last record was lost, and so was the first record of the next one.
    kernel.enters_time_wait(sock, TimeWaitKind::FinWait2);
    kernel.wait(1);
    kernel.closes(sock, FinWait2, ORPHAN.with(Flags::FIN_RECEIVED), 0);
    kernel.wait(10);
    assert_eq!(now(&mut kernel), (1, 0));
}

#[test]
fn without_the_time_wait_hook_time_waits_are_inferred() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    closes_leaving(&mut kernel, sock, TimeWaitKind::Nothing);
    kernel.wait_ms(50);
    kernel.leaves_fin_wait2(sock);
    kernel.time_wait_ends(sock);
    assert_eq!(now(&mut kernel), (1, 0));
    assert_eq!(kernel.closed[0].time_wait, Some(true));
}

#[test]
fn without_room_for_rows_time_waits_still_add_up() {
    let socks = [1, 2, 3].map(|id| Socket::client(id, 40_000 + id as u16));
    let mut kernel =
        TracedKernel::with_limits(Limits { connections: 10, rows: 0 }).with_all_hooks();
    for (sock, kind) in socks.into_iter().zip([
        TimeWaitKind::TimeWait,
        TimeWaitKind::FinWait2,
        TimeWaitKind::FinWait2,
    ]) {
        closes_leaving(&mut kernel, sock, kind);
    }
    assert_eq!(now(&mut kernel), (1, 2));
    kernel.leaves_fin_wait2(socks[1]);
    assert_eq!(now(&mut kernel), (2, 1));
    socks.into_iter().for_each(|sock| kernel.time_wait_ends(sock));
    assert_eq!(now(&mut kernel), (0, 0));
}

#[test]
fn a_filter_admits_time_waits_with_their_connection() {
    let sock = Socket::child(2, 80);
    let filter =
        |network: &str| Filter { remote: vec![network.parse().unwrap()], ..Filter::default() };
    for (network, expected) in [("198.51.100.0/24", (0, 1)), ("10.0.0.0/8", (0, 0))] {
        let mut kernel = TracedKernel::filtered(filter(network)).with_all_hooks();
        kernel.connection(sock, &[SynRecv, Established, FinWait1, FinWait2]);
        closes_now_leaving(&mut kernel, sock, TimeWaitKind::FinWait2);
        assert_eq!(now(&mut kernel), expected, "{network}");
        let events = kernel.tracker.events();
        let (delivered, filtered) = if expected == (0, 0) { (0, 6) } else { (6, 0) };
        assert_eq!((events.delivered, events.filtered), (delivered, filtered), "{network}");
        kernel.leaves_fin_wait2(sock);
        kernel.time_wait_ends(sock);
        assert_eq!(now(&mut kernel), (0, 0), "{network}");
    }
}

#[test]
fn a_time_wait_entry_is_held_with_its_undecided_socket() {
    let (listener, child) = (Socket::listener(1, 80), Socket::child(2, 80));
    let filter = Filter { pids: vec![700], ..Filter::default() };
    let mut kernel = TracedKernel::filtered(filter).with_all_hooks();
    // Only its last record shows the owner.
    let first_record = Socket { remote: listener.remote, ..child };
    kernel.moves(first_record, (Listen, SynRecv));
    for states in [(SynRecv, Established), (Established, FinWait1), (FinWait1, FinWait2)] {
        kernel.moves(child, states);
    }
    kernel.enters_time_wait(child, TimeWaitKind::TimeWait);
    kernel.accepts(child);
    assert_eq!(kernel.tracker.open().count(), 0, "the owner is unknown");
    assert_eq!(kernel.tracker.events().delivered, 0);
    kernel.listens(listener, "server");
    let end = child.transition(kernel.now, (FinWait2, Close));
    kernel.report(Input::Transition(Transition { flags: ORPHAN, ..end }));
    assert_eq!(kernel.reasons(), [CloseReason::ClosedByUs], "the entry decides the reason at once");
    assert_eq!(kernel.row(Role::Server, 80).stats.time_wait_now, 1);
    let events = kernel.tracker.events();
    assert_eq!((events.delivered, events.filtered), (8, 0));
}
