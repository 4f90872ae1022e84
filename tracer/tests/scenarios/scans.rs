//! Scans, lost records, reused sockets, full tables, and clocks and counters with impossible values.
//! Each scenario is a past or possible mistake.

use synfin::{
    tcp::{
        close_reason::CloseReason,
        handshake::{Handshake, Unmeasured},
        role::Role,
    },
    trace::{
        counters::{Counters, Tick},
        event::Input,
        filter::Filter,
        ids::SockId,
        scan::{NamespaceList, ScannedSocket, ScannedTimeWait, SocketHolder},
        time::Nanos,
    },
    tracker::{Common, Limits, Origin},
};
use synfin_common::{
    event::{Flags, Kind},
    state::TcpState::{self, *},
};
use synfin_testkit::{ELSEWHERE, HERE, SECOND, Socket, TracedKernel, address};

#[test]
fn a_reused_socket_is_another_connection() {
    let first = Socket::client(1, 40_000);
    let second = Socket { local: address("192.0.2.1:40001"), ..first };
    let mut kernel = TracedKernel::scanned();
    kernel.connection(first, &[SynSent, Established]);
    // The last record of the first one and the first record of the second one are lost.
    kernel.wait(30);
    kernel.moves(second, (Established, CloseWait));
    // No scan comes that could decide its role.
    kernel.wait(10);
    assert_eq!(kernel.reasons(), [CloseReason::LostSight]);
    assert!(kernel.tracker.events().are_lower_bounds());
    let connection = kernel.only_connection();
    assert_eq!(
        (connection.local(), connection.origin, connection.handshake),
        (second.local, Origin::AfterLoss, None)
    );
    kernel.moves(second, (CloseWait, LastAck));
    kernel.moves(second, (LastAck, Close));
    assert_eq!(kernel.reasons(), [CloseReason::LostSight, CloseReason::ClosedByPeer]);
    assert_eq!(kernel.closed[1].opened, None, "its age is unknown");
}

/// Only the first record of the child is received, which up to Linux 6.14 has the listener's
/// endpoints.
#[test]
fn a_child_socket_that_connects_is_another_connection() {
    let (child, client) = (Socket::child(1, 8080), Socket::client(1, 40_000));
    let mut kernel = TracedKernel::scanned();
    kernel.connection(child, &[SynRecv]);
    // The last record of the child and the first record of the client are lost.
    kernel.wait(30);
    let found = client.scanned(CloseWait);
    kernel.scan(HERE, &[ScannedSocket { port_by_connect: Some(true), ..found }]);
    assert_eq!(kernel.closed.len(), 1);
    let connection = kernel.only_connection();
    assert_eq!((connection.role, connection.state), (Role::Client, CloseWait));
    assert_eq!((connection.local(), connection.remote()), (client.local, client.remote));
}

#[test]
fn a_socket_reused_in_another_namespace_is_another_connection() {
    let here = Socket::client(1, 40_000);
    let there = Socket { netns: ELSEWHERE, ..here };
    for found_by_scan in [false, true] {
        let mut kernel = TracedKernel::scanned();
        kernel.connection(here, &[SynSent, Established]);
        if found_by_scan {
            kernel.scan(ELSEWHERE, &[there.scanned(Established)]);
        } else {
            kernel.moves(there, (Established, FinWait1));
            kernel.wait(10);
        }
        assert_eq!(kernel.reasons(), [CloseReason::LostSight]);
        assert_eq!(kernel.only_connection().netns, ELSEWHERE);
    }
}

#[test]
fn a_connect_on_an_established_socket_is_another_connection() {
    let sock = Socket::client(1, 40_000);
    for found_by_scan in [false, true] {
        let mut kernel = TracedKernel::scanned();
        kernel.connection(sock, &[SynSent, Established]);
        kernel.wait(1);
        if found_by_scan {
            kernel.scan(HERE, &[sock.scanned(SynSent)]);
        } else {
            kernel.moves(sock, (SynSent, Close));
        }
        assert_eq!(kernel.reasons()[0], CloseReason::LostSight);
        let attempts: u64 = kernel.rows().iter().map(|row| row.stats.counters.attempts).sum();
        assert_eq!(attempts, 2);
    }
}

#[test]
fn a_socket_missing_from_one_scan_is_kept() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.connection(sock, &[SynSent, Established]);
    kernel.wait(2);
    kernel.scan(HERE, &[]);
    assert!(kernel.tracker.wants_scan(HERE), "another scan decides");
    kernel.scan(HERE, &[sock.scanned(Established)]);
    assert!(!kernel.tracker.wants_scan(HERE));
    kernel.scan(HERE, &[]);
    assert_eq!(kernel.only_connection().state, Established);
    kernel.scan(HERE, &[]);
    assert_eq!(kernel.reasons(), [CloseReason::LostSight]);
}

#[test]
fn a_record_between_two_scans_keeps_a_missing_socket() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.connection(sock, &[SynSent, Established]);
    kernel.wait(2);
    kernel.scan(HERE, &[]);
    kernel.moves(sock, (Established, CloseWait));
    kernel.wait(2);
    kernel.scan(HERE, &[]);
    assert_eq!(kernel.only_connection().state, CloseWait);
}

#[test]
fn after_losses_a_socket_missing_from_one_scan_is_closed() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.connection(sock, &[SynSent, Established]);
    kernel.loses(Kind::Closing);
    kernel.tick();
    kernel.wait(2);
    kernel.scan(HERE, &[]);
    assert_eq!(kernel.reasons(), [CloseReason::LostSight]);
}

#[test]
fn a_connecting_socket_is_left_to_a_later_scan() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.connection(sock, &[SynSent]);
    kernel.loses(Kind::Closing);
    kernel.tick();
    kernel.scan(HERE, &[]);
    assert_eq!(kernel.reasons(), []);
    assert!(kernel.tracker.wants_scan(HERE), "a later scan is wanted");
    kernel.wait(2);
    kernel.scan(HERE, &[]);
    kernel.scan(HERE, &[]);
    assert_eq!(kernel.reasons(), [CloseReason::ConnectLostSight]);
}

#[test]
fn a_state_that_may_be_outdated_is_scanned_again() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.connection(sock, &[SynSent, Established]);
    // Its record of FIN_WAIT1 may be lost, or the scan may have read the state just before it.
    kernel.scan(HERE, &[sock.scanned(FinWait1)]);
    assert_eq!((kernel.only_connection().state, kernel.gaps()), (Established, 0));
    assert!(kernel.tracker.wants_scan(HERE));
    kernel.wait(1);
    kernel.scan(HERE, &[sock.scanned(FinWait1)]);
    assert_eq!((kernel.only_connection().state, kernel.gaps()), (FinWait1, 1));
}

#[test]
fn a_scan_repairs_losses_in_its_namespace_only() {
    let mut kernel = TracedKernel::scanned();
    kernel.loses(Kind::Closing);
    kernel.tick();
    kernel.scan(HERE, &[]);
    assert!(!kernel.tracker.wants_scan(HERE));
    assert!(kernel.tracker.wants_scan(ELSEWHERE));
}

#[test]
fn a_failed_scan_proves_no_close() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.connection(sock, &[SynSent, Established]);
    kernel.loses(Kind::Closing);
    kernel.tick();
    kernel.wait(2);
    kernel.scan_begins(HERE);
    kernel.scan_fails(HERE);
    assert_eq!(kernel.only_connection().state, Established);
    assert!(kernel.tracker.wants_scan(HERE));
}

#[test]
fn a_finding_that_is_out_of_date_keeps_no_socket_of_another_namespace() {
    let here = Socket::client(1, 40_000);
    let there = Socket { netns: ELSEWHERE, ..here };
    let mut kernel = TracedKernel::scanned();
    kernel.scan(ELSEWHERE, &[]);
    kernel.connection(here, &[SynSent, Established]);
    kernel.wait(2);
    let found = ScannedSocket { time: kernel.now, ..here.scanned(Established) };
    kernel.scan_begins(HERE);
    kernel.wait(1);
    kernel.moves(here, (Established, Close));
    kernel.connection(there, &[SynSent, Established]);
    kernel.wait(1);
    kernel.report(Input::ScannedSocket(found));
    kernel.scan_ends(HERE);
    for _ in 0..2 {
        assert_eq!(kernel.only_connection().netns, ELSEWHERE);
        kernel.wait(2);
        kernel.scan(ELSEWHERE, &[]);
    }
    assert_eq!(kernel.reasons().last(), Some(&CloseReason::LostSight));
    assert_eq!(kernel.tracker.open().len(), 0);
}

#[test]
fn a_connection_closed_during_a_scan_stays_closed() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::traced();
    kernel.scan_begins(HERE);
    let found = ScannedSocket { time: kernel.now, ..sock.scanned(Established) };
    kernel.moves(sock, (Established, Close));
    kernel.report(Input::ScannedSocket(found));
    kernel.scan_ends(HERE);
    assert_eq!(kernel.tracker.open().count(), 0);
    assert_eq!(kernel.closed.len(), 1);
}

#[test]
fn a_listener_closed_during_a_scan_stays_closed() {
    let listener = Socket::listener(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.listens(listener, "server");
    kernel.scan_begins(HERE);
    let found = ScannedSocket { time: kernel.now, ..listener.scanned(Listen) };
    kernel.moves(listener, (Listen, Close));
    kernel.report(Input::ScannedSocket(found));
    kernel.scan_ends(HERE);
    // Now the port belongs to a client, but its first record is lost.
    kernel.moves(Socket::client(2, 40_000), (Established, CloseWait));
    kernel.wait(10);
    assert_eq!(kernel.only_connection().role, Role::Unknown);
}

#[test]
fn a_listener_missing_from_one_scan_keeps_its_owner() {
    let mut kernel = TracedKernel::scanned();
    kernel.listens(Socket::listener(1, 80), "server");
    kernel.wait(2);
    kernel.scan(HERE, &[]);
    kernel.connection(Socket::child(2, 80), &[SynRecv, Established]);
    let owner =
        kernel.only_connection().owner.as_ref().map(|owner| (owner.pid, &*owner.label.name));
    assert_eq!(owner, Some((Some(700), "server")));
}

#[test]
fn a_child_belongs_to_the_owner_of_its_listener() {
    let mut kernel = TracedKernel::scanned();
    kernel.listens(Socket::listener(1, 80), "server");
    let child = Socket::child(2, 80);
    kernel.connection(child, &[SynRecv, Established]);
    let row = &kernel.rows()[0];
    assert_eq!((row.identity.role, &row.identity.port), (Role::Server, &Common::One(80)));
    assert_eq!(
        kernel.only_connection().owner.as_ref().map(|owner| &*owner.label.name),
        Some("server")
    );
}

#[test]
fn the_role_of_an_adopted_connection_follows_from_its_port() {
    let sock = Socket::client(2, 80);
    // Whether a listener exists, how the port was chosen; then the role.
    for (served, port_by_connect, role) in [
        (false, Some(true), Role::Client),
        (true, Some(true), Role::Client),
        (true, Some(false), Role::Server),
        (false, Some(false), Role::Unknown),
        (true, None, Role::Server),
        (false, None, Role::Unknown),
    ] {
        let mut kernel = TracedKernel::traced();
        if served {
            kernel.listens(Socket::listener(1, 80), "server");
        }
        let found = ScannedSocket { port_by_connect, ..sock.scanned(Established) };
        kernel.scan(
            HERE,
            &[found, Socket::listener(1, 80).scanned(if served { Listen } else { Close })],
        );
        let connection = kernel.only_connection();
        assert_eq!(connection.role, role, "{served} {port_by_connect:?}");
    }
}

#[test]
fn a_connection_older_than_the_trace_has_no_handshake_and_no_age() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::traced();
    kernel.scan(HERE, &[sock.scanned(Established)]);
    kernel.moves(sock, (Established, CloseWait));
    kernel.moves(sock, (CloseWait, LastAck));
    kernel.moves(sock, (LastAck, Close));
    let closed = &kernel.closed[0];
    assert_eq!((closed.origin, closed.opened), (Origin::Preexisting, None));
    assert_eq!(closed.handshake, None);
    let rows = kernel.rows();
    assert_eq!((rows[0].stats.counters.adopted, rows[0].stats.counters.established), (1, 0));
    assert_eq!(rows[0].stats.counters.lifetime.count(), 0);
}

#[test]
fn a_missing_transition_counts_as_a_gap() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.moves(sock, (Close, SynSent));
    kernel.moves(sock, (FinWait1, FinWait2));
    assert_eq!((kernel.only_connection().state, kernel.gaps()), (FinWait2, 1));
    let lost = Handshake::Unmeasured(Unmeasured::EvidenceLost);
    assert_eq!(kernel.only_connection().handshake, Some(lost));
}

#[test]
fn a_scan_completes_endpoints_that_the_first_record_lacks() {
    let listener = Socket::listener(1, 80);
    let child = Socket::child(2, 80);
    let client = Socket::client(3, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.listens(listener, "server");
    kernel.connection(child, &[SynRecv]);
    kernel.connection(client, &[SynSent]);
    kernel.scan(HERE, &[listener.scanned(Listen), child.scanned(SynRecv), client.scanned(SynSent)]);
    let ends: Vec<_> = kernel
        .tracker
        .open()
        .map(|(_, connection)| (connection.local(), connection.remote()))
        .collect();
    assert_eq!(ends, [(child.local, child.remote), (client.local, client.remote)]);
}

#[test]
fn a_full_table_evicts_and_counts_it() {
    let mut kernel = TracedKernel::with_limits(Limits { connections: 1, rows: 10 });
    kernel.connection(Socket::client(1, 40_000), &[SynSent, Established]);
    kernel.connection(Socket::client(2, 40_001), &[SynSent]);
    kernel.connection(Socket::client(3, 40_002), &[SynSent]);
    assert_eq!(kernel.reasons(), [CloseReason::LostSight, CloseReason::ConnectLostSight]);
    assert_eq!(kernel.tracker.take_snapshot().tables.evicted, 2);
}

#[test]
fn scans_of_more_sockets_than_the_table_holds_do_not_replace_any() {
    let socks = [1, 2, 3, 4].map(|id| Socket::client(id, 40_000));
    let found = socks.map(|sock| sock.scanned(Established));
    // A connection from before the trace is counted once, and an observed one not again.
    for (observed, adopted) in [(false, 4), (true, 0)] {
        let mut kernel = TracedKernel::with_limits(Limits { connections: 2, rows: 10 });
        if observed {
            kernel.scan(HERE, &[]);
            socks.iter().for_each(|&sock| kernel.connection(sock, &[SynSent, Established]));
        }
        for _ in 0..3 {
            kernel.scan(HERE, &found);
        }
        assert_eq!(kernel.reasons(), [CloseReason::LostSight; 2], "{observed}");
        assert_eq!((kernel.tracker.evicted(), kernel.gaps()), (2, 0), "{observed}");
        let row = kernel.only_row();
        assert_eq!((row.stats.counters.adopted, row.stats.gauges.open), (adopted, 2), "{observed}");
    }
}

#[test]
fn a_time_wait_found_by_several_scans_is_counted_once() {
    for rows in [0, 10] {
        let sock = Socket::client(1, 40_000);
        let mut kernel = TracedKernel::with_limits(Limits { connections: 10, rows });
        kernel.closes_simultaneously(sock);
        for _ in 0..3 {
            kernel.wait(1);
            kernel.scan_begins(HERE);
            kernel.report(Input::ScannedTimeWait(ScannedTimeWait {
                fin_wait2: false,
                port_by_connect: Some(true),
                local: sock.local,
                remote: sock.remote,
                remaining_ms: 30_000,
            }));
            kernel.scan_ends(HERE);
        }
        assert_eq!(kernel.rows()[0].stats.time_wait_now, 1, "with {rows} rows");
    }
}

#[test]
fn scanning_one_namespace_keeps_the_sockets_of_another() {
    for rows in [0, 10] {
        let here = Socket::listener(1, 80);
        let there = Socket { netns: ELSEWHERE, id: 2, ..here };
        let mut kernel = TracedKernel::with_limits(Limits { connections: 10, rows });
        kernel.scan(HERE, &[here.scanned(Listen)]);
        kernel.scan(ELSEWHERE, &[there.scanned(Listen)]);
        assert_eq!(kernel.rows()[0].stats.scanned.listeners, 2, "with {rows} rows");
        kernel.scan(HERE, &[]);
        assert_eq!(kernel.rows()[0].stats.scanned.listeners, 1, "with {rows} rows");
    }
}

#[test]
fn a_time_wait_peak_belongs_to_its_interval() {
    let mut kernel = TracedKernel::scanned();
    kernel.closes_simultaneously(Socket::client(1, 40_000));
    assert_eq!(kernel.rows()[0].stats.time_wait_peak, 1);
    kernel.wait(100);
    assert_eq!(kernel.rows()[0].stats.time_wait_peak, 1, "one existed until the minute was over");
    kernel.wait(100);
    assert_eq!(kernel.rows().len(), 0, "no row has any activity");
    kernel.connection(Socket::client(2, 40_001), &[SynSent]);
    assert_eq!(kernel.rows()[0].stats.time_wait_peak, 0);
}

#[test]
fn half_open_connections_are_scanned_again() {
    let mut kernel = TracedKernel::scanned();
    let half_open = Socket::child(1, 80).scanned(NewSynRecv);
    kernel.scan(HERE, &[Socket::listener(2, 80).scanned(Listen), half_open]);
    assert_eq!(kernel.rows()[0].stats.scanned.half_open, 1);
    assert!(kernel.tracker.wants_scan(HERE));
    kernel.scan(HERE, &[Socket::listener(2, 80).scanned(Listen)]);
    assert_eq!(kernel.rows()[0].stats.scanned.half_open, 0);
    assert!(!kernel.tracker.wants_scan(HERE));
}

#[test]
fn times_up_to_u64_max_do_not_overflow() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.now = u64::MAX - 10;
    kernel.connection(sock, &[SynSent, Established]);
    kernel.now = u64::MAX;
    kernel.scan(HERE, &[sock.scanned(Established)]);
    kernel.moves(sock, (Established, FinWait1));
    kernel.moves(sock, (FinWait1, TcpState::Closing));
    kernel.moves(sock, (TcpState::Closing, Close));
    kernel.scan_begins(HERE);
    kernel.report(Input::ScannedTimeWait(ScannedTimeWait {
        fin_wait2: false,
        port_by_connect: None,
        local: sock.local,
        remote: sock.remote,
        remaining_ms: u32::MAX,
    }));
    kernel.scan_ends(HERE);
    assert_eq!(kernel.rows()[0].stats.counters.time_wait_entered, 1);
}

#[test]
fn a_recovered_transition_is_not_missed() {
    let mut kernel = TracedKernel::scanned();
    let sock = Socket::client(1, 40_000);
    for states in [(Close, SynSent), (SynSent, Established), (Established, CloseWait)] {
        kernel.recovers_next();
        kernel.moves(sock, states);
    }
    kernel.tick();
    assert_eq!(kernel.only_connection().state, CloseWait);
    let events = kernel.tracker.events();
    assert_eq!((events.recovered, events.missed, events.gaps), (3, 0, 0));
    // Another socket at the same address may do the same again.
    for states in [(CloseWait, Close), (Close, SynSent)] {
        kernel.recovers_next();
        kernel.moves(sock, states);
    }
    kernel.tick();
    assert_eq!(kernel.only_connection().state, SynSent);
    assert_eq!((kernel.tracker.events().recovered, kernel.closed.len()), (5, 1));
}

#[test]
fn event_counters_never_decrease() {
    let mut kernel = TracedKernel::scanned();
    let counters = Counters {
        seen: [9; Kind::COUNT],
        lost: [5; Kind::COUNT],
        filtered: [2; Kind::COUNT],
        refused: 1,
        missed: 3,
        skipped: 0,
        recovered: 0,
    };
    kernel.report(Input::Tick(Tick { time: kernel.now, counters, ..Tick::default() }));
    kernel.rows();
    kernel.report(Input::Tick(Tick {
        time: kernel.now,
        counters: Counters::default(),
        ..Tick::default()
    }));
    let events = kernel.tracker.take_snapshot().events;
    let counts = [events.seen, events.lost, events.filtered, events.missed];
    assert_eq!(counts, [0; 4]);
    let counters = Counters {
        seen: [u64::MAX; Kind::COUNT],
        lost: [u64::MAX; Kind::COUNT],
        filtered: [u64::MAX; Kind::COUNT],
        refused: u64::MAX,
        missed: u64::MAX,
        skipped: u64::MAX,
        recovered: 1,
    };
    kernel.report(Input::Tick(Tick { time: kernel.now, counters, ..Tick::default() }));
    assert!(kernel.tracker.take_snapshot().events.are_lower_bounds());
}

#[test]
fn the_age_of_the_scans_is_that_of_the_oldest_namespace_with_traffic() {
    let mut kernel = TracedKernel::traced();
    let busy = Socket::client(1, 40_001);
    let idle = Socket { netns: ELSEWHERE, ..Socket::listener(2, 80) };
    kernel.listens(idle, "idle");
    kernel.scan(ELSEWHERE, &[idle.scanned(Listen)]);
    kernel.wait(60);
    kernel.connection(busy, &[SynSent, Established]);
    let scanned = kernel.now;
    kernel.scan(HERE, &[busy.scanned(Established)]);
    kernel.moves(busy, (Established, FinWait1));
    kernel.wait(1);
    let scans = kernel.tracker.take_snapshot().scans;
    assert_eq!((scans.namespaces, scans.oldest), (2, Some(scanned)));
    // Without any traffic since, the latest scan counts.
    let scanned = kernel.now;
    kernel.scan(HERE, &[busy.scanned(FinWait1)]);
    kernel.wait(1);
    assert_eq!(kernel.tracker.take_snapshot().scans.oldest, Some(scanned));
    // Traffic in the idle one makes its scan old.
    kernel.opens(Socket { netns: ELSEWHERE, ..Socket::client(3, 40_002) }, (Close, SynSent), None);
    let oldest = kernel.tracker.take_snapshot().scans.oldest.expect("a scan");
    assert!(oldest + 60 * SECOND < scanned, "{oldest} {scanned}");
}

#[test]
fn a_namespace_that_is_gone_takes_its_time_waits_along() {
    let list = |time, namespaces: &[u32]| {
        Input::Namespaces(NamespaceList { time, namespaces: namespaces.to_vec() })
    };
    let socket = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.connection(socket, &[SynSent, Established]);
    kernel.closes_actively(socket);
    kernel.wait(1);
    let now = |kernel: &mut TracedKernel| {
        kernel.rows().iter().map(|row| row.stats.time_wait_now).sum::<u64>()
    };
    assert_eq!(now(&mut kernel), 1);
    // It is listed, or the list is older than its last transition.
    for seen in [list(kernel.now, &[HERE]), list(kernel.now - 10 * SECOND, &[])] {
        kernel.report(seen);
        assert_eq!(now(&mut kernel), 1);
    }
    // An open connection keeps it.
    let open = Socket::client(2, 40_001);
    kernel.connection(open, &[SynSent, Established]);
    kernel.wait(1);
    let gone = list(kernel.now, &[]);
    kernel.report(gone.clone());
    assert_eq!(now(&mut kernel), 1);
    kernel.receives_reset(open);
    kernel.closes(open, Established, Flags::HAS_SOCKET, 104);
    kernel.wait(1);
    let gone = list(kernel.now, &[]);
    kernel.report(gone);
    assert_eq!(now(&mut kernel), 0);
    assert!(kernel.tracker.wants_scan(HERE));
}

/// The close of a connection and the opening of the next one with the same socket are lost.
#[test]
fn a_reused_socket_that_a_scan_finds_has_to_pass_the_filters() {
    let (admitted, next) = (Socket::child(1, 80), Socket::child(1, 90));
    let filter = Filter { service_ports: vec!["80".parse().unwrap()], ..Filter::default() };
    let mut kernel = TracedKernel::filtered(filter);
    kernel.scan(HERE, &[]);
    kernel.connection(admitted, &[SynRecv, Established]);
    kernel.wait(30);
    let listeners = [80, 90].map(|port| Socket::listener(port.into(), port).scanned(Listen));
    let next = ScannedSocket { port_by_connect: Some(false), ..next.scanned(Established) };
    kernel.scan(HERE, &[&listeners[..], &[next]].concat());
    assert_eq!(kernel.reasons(), [CloseReason::LostSight]);
    assert_eq!((kernel.tracker.open().count(), kernel.gaps()), (0, 1));
}

/// The record of the close is lost. Then the namespace is destroyed.
#[test]
fn a_namespace_that_no_process_keeps_takes_its_connections_along() {
    let (lost, orphan) = (Socket::child(1, 80), Socket::child(3, 80));
    let listener = Socket::listener(2, 80);
    for held in [Some(lost.id), Some(listener.id), None] {
        let mut kernel = TracedKernel::scanned();
        kernel.listens(listener, "server");
        kernel.connection(lost, &[SynRecv, Established]);
        kernel.connection(orphan, &[SynRecv, Established, FinWait1]);
        let mut passes = |seconds| {
            kernel.wait(seconds);
            let holders = held.map(|sock| holder(kernel.now, sock));
            kernel.report(Input::SocketHolders(holders.into_iter().collect()));
            let namespaces = Vec::new();
            kernel.report(Input::Namespaces(NamespaceList { time: kernel.now, namespaces }));
            (kernel.tracker.open().count(), kernel.reasons())
        };
        // Holders that were scanned before the list say nothing.
        for _ in 0..2 {
            assert_eq!(passes(10), (2, vec![]));
        }
        // The orphan keeps the namespace, as long as it can live.
        for _ in 0..3 {
            assert_eq!(passes(10), (2, vec![]));
        }
        passes(600);
        passes(10);
        let is_kept = held.is_some();
        assert_eq!(passes(10).0, if is_kept { 2 } else { 0 }, "held: {held:?}");
        assert_eq!(kernel.gaps(), if is_kept { 0 } else { 2 }, "held: {held:?}");
    }
}

/// Its process and its namespace are gone before the first scan, which is to show its role.
#[test]
fn an_orphan_of_unknown_role_keeps_its_namespace() {
    let orphan = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::traced();
    kernel.moves(orphan, (Established, FinWait1));
    assert_eq!(kernel.tracker.held_records(), 1);
    kernel.wait(1);
    let namespaces = Vec::new();
    kernel.report(Input::Namespaces(NamespaceList { time: kernel.now, namespaces }));
    assert_eq!((kernel.tracker.open().count(), kernel.gaps()), (1, 0));
    kernel.closes(orphan, FinWait1, Flags::default(), 0);
    assert_eq!((kernel.tracker.open().count(), kernel.gaps()), (0, 0));
}

fn holder(time: Nanos, sock: SockId) -> SocketHolder {
    SocketHolder { time, sock, started: 1, pid: 700, parent: 1, comm: "server".into(), cgroup: 0 }
}

/// Up to Linux 6.14, the first record of a child lacks its peer, so that a filter holds it. A scan shows
/// the peer, whether the listener is still there and whether the scan succeeds or not.
#[test]
fn a_scan_that_fails_later_admits_a_held_connection() {
    let (listener, child) = (Socket::listener(2, 80), Socket::child(1, 80));
    let remote = vec![child.remote.ip().to_string().parse().unwrap()];
    let mut kernel = TracedKernel::filtered(Filter { remote, ..Filter::default() });
    kernel.listens(listener, "server");
    kernel.opens(child, (Listen, SynRecv), None);
    kernel.stops_listening(listener, 0);
    kernel.wait(1);
    assert_eq!(kernel.tracker.held_records(), 1);
    kernel.scan_begins(HERE);
    kernel.scan_finds(child, SynRecv);
    kernel.scan_fails(HERE);
    assert_eq!(kernel.only_connection().role, Role::Server);
}
