//! TIME_WAITs that end early because their endpoints are reused, inferred without the optional hook.
//! For the hook, see `time_wait_hooks.rs`.

use synfin::{
    tcp::{group_by::By, role::Role},
    trace::{
        event::Input,
        scan::{ScannedSocket, ScannedTimeWait},
    },
    tracker::Limits,
};
use synfin_common::state::TcpState::{self, *};
use synfin_testkit::{ELSEWHERE, HERE, SECOND, Socket, TracedKernel};

fn now(kernel: &mut TracedKernel) -> u64 {
    kernel.tracker.take_snapshot().rows(By::Port).iter().map(|row| row.stats.time_wait_now).sum()
}

#[test]
fn a_new_connection_at_the_same_endpoints_ends_a_time_wait() {
    let first = Socket::client(1, 40_000);
    let again = Socket { id: 3, ..first };
    for rows in [0, 10] {
        let mut kernel = TracedKernel::with_limits(Limits { connections: 10, rows });
        kernel.closes_simultaneously(first);
        kernel.closes_simultaneously(Socket::client(2, 40_001));
        kernel.wait(2);
        assert_eq!(now(&mut kernel), 2);
        kernel.connection(again, &[SynSent]);
        assert_eq!(now(&mut kernel), 2, "the attempt may fail, which restores the old one");
        kernel.moves(again, (SynSent, Established));
        assert_eq!(now(&mut kernel), 1, "with {rows} rows");
        // The new connection leaves its own at the end.
        kernel.moves(again, (Established, FinWait1));
        kernel.moves(again, (FinWait1, TcpState::Closing));
        kernel.moves(again, (TcpState::Closing, Close));
        assert_eq!(now(&mut kernel), 2, "with {rows} rows");
        kernel.wait(100);
        assert_eq!(now(&mut kernel), 0);
    }
}

#[test]
fn a_new_connection_of_a_server_ends_a_time_wait() {
    let first = Socket::child(2, 80);
    let again = Socket { id: 3, ..first };
    let mut kernel = TracedKernel::scanned();
    kernel.listens(Socket::listener(1, 80), "server");
    kernel.connection(first, &[SynRecv, Established, FinWait1, TcpState::Closing, Close]);
    assert_eq!(kernel.row(Role::Server, 80).stats.time_wait_now, 1);
    kernel.connection(again, &[SynRecv, Established]);
    assert_eq!(kernel.row(Role::Server, 80).stats.time_wait_now, 0);
}

#[test]
fn equal_endpoints_in_another_namespace_end_no_time_wait() {
    let first = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.closes_simultaneously(first);
    kernel.connection(Socket { id: 2, netns: ELSEWHERE, ..first }, &[SynSent, Established]);
    assert_eq!(now(&mut kernel), 1);
}

#[test]
fn a_time_wait_is_ended_only_once() {
    let first = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    for port in [40_001, 40_002] {
        kernel.closes_simultaneously(Socket::client(u64::from(port), port));
    }
    kernel.closes_simultaneously(first);
    for id in 2..5 {
        // Their last records were lost, or they were reset: none has left a TIME_WAIT.
        kernel.connection(Socket { id, ..first }, &[SynSent, Established]);
    }
    assert_eq!(now(&mut kernel), 2);
}

#[test]
fn a_reused_time_wait_ends_whenever_it_was_scanned() {
    let first = Socket::client(1, 40_000);
    let again = Socket { id: 2, ..first };
    // Scanned never, after it was entered, or while it was entered; the clock's second may change.
    for scanned in ["never", "after", "during"] {
        for offset in [0, SECOND / 2, SECOND - 2_000, SECOND - 5_000] {
            let mut kernel = TracedKernel::scanned();
            kernel.now = 2_000 * SECOND + offset;
            if scanned == "during" {
                kernel.scan_begins(HERE);
            }
            kernel.closes_simultaneously(first);
            if scanned == "after" {
                kernel.scan_begins(HERE);
            }
            if scanned != "never" {
                kernel.scan_finds_time_wait(first, 59_999);
                kernel.scan_ends(HERE);
            }
            assert_eq!(now(&mut kernel), 1, "{scanned} {offset}");
            kernel.connection(again, &[SynSent, Established]);
            assert_eq!(now(&mut kernel), 0, "{scanned} {offset}");
        }
    }
}

/// Records from before the beginning of a scan arrive after it.
#[test]
fn a_scan_finds_the_time_wait_of_a_connection_that_replaced_one_before() {
    let first = Socket::client(1, 40_000);
    let again = Socket { id: 2, ..first };
    let mut kernel = TracedKernel::scanned();
    kernel.closes_actively(first);
    kernel.wait(2);
    kernel.scan_begins(HERE);
    kernel.now -= SECOND;
    kernel.closes_actively(again);
    kernel.now += SECOND;
    kernel.scan_finds_time_wait(again, 59_000);
    kernel.scan_ends(HERE);
    assert_eq!(now(&mut kernel), 1);
}

#[test]
fn a_time_wait_older_than_the_trace_ends_while_the_first_scan_finds_it() {
    let first = Socket::client(1, 40_000);
    let again = Socket { id: 2, ..first };
    for closes in [false, true] {
        let mut kernel = TracedKernel::traced();
        kernel.scan_begins(HERE);
        kernel.report(Input::ScannedTimeWait(ScannedTimeWait {
            fin_wait2: false,
            port_by_connect: Some(true),
            local: first.local,
            remote: first.remote,
            remaining_ms: 30_000,
        }));
        match closes {
            false => kernel.connection(again, &[SynSent, Established]),
            true => kernel.closes_actively(again),
        }
        kernel.scan_ends(HERE);
        assert_eq!(now(&mut kernel), u64::from(closes));
    }
}

#[test]
fn an_orphan_in_fin_wait2_is_not_replaced() {
    let (orphan, other) = (Socket::client(1, 40_000), Socket::client(2, 40_001));
    for during_scan in [false, true] {
        let mut kernel = TracedKernel::scanned();
        if during_scan {
            kernel.scan_begins(HERE);
        }
        kernel.closes_simultaneously(orphan);
        kernel.closes_simultaneously(other);
        if !during_scan {
            kernel.scan_begins(HERE);
        }
        for (sock, fin_wait2) in [(orphan, true), (other, false)] {
            kernel.report(Input::ScannedTimeWait(ScannedTimeWait {
                fin_wait2,
                port_by_connect: None,
                local: sock.local,
                remote: sock.remote,
                remaining_ms: 60_000,
            }));
        }
        kernel.scan_ends(HERE);
        assert_eq!(now(&mut kernel), 1);
        kernel.connection(Socket { id: 3, ..orphan }, &[SynSent, Established]);
        assert_eq!(now(&mut kernel), 1, "the other one remains; during the scan: {during_scan}");
    }
}

#[test]
fn a_scan_shows_the_unknown_role_of_a_time_wait() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    // Its first record and the record of its listener were lost.
    for states in
        [(Established, FinWait1), (FinWait1, TcpState::Closing), (TcpState::Closing, Close)]
    {
        kernel.moves(sock, states);
    }
    kernel.wait(10);
    let row = kernel.only_row();
    assert_eq!((row.identity.role, row.stats.time_wait_now), (Role::Unknown, 1));
    kernel.scan_begins(HERE);
    let listener = Socket::listener(2, 40_000).scanned(Listen);
    kernel.report(Input::ScannedSocket(ScannedSocket { time: kernel.now, ..listener }));
    kernel.scan_finds_time_wait(sock, 59_000);
    kernel.scan_ends(HERE);
    let rows = kernel.rows();
    let time_waits: Vec<_> = rows
        .iter()
        .filter(|row| row.stats.time_wait_now > 0)
        .map(|row| row.identity.role)
        .collect();
    assert_eq!(time_waits, [Role::Server]);
}
