//! Connections older than the trace: their roles, rows and ages.

use synfin::{
    tcp::{
        close_reason::CloseReason,
        group_by::By,
        handshake::{Handshake, Unmeasured},
        role::Role,
    },
    trace::{
        event::{Closing, Input, TimeWaitKind},
        filter::Filter,
        scan::{ScannedSocket, ScannedTimeWait},
        time::Nanos,
    },
    tracker::{Common, LINGERING_STATES},
};
use synfin_common::{
    event::Flags,
    state::TcpState::{self, *},
};
use synfin_testkit::{ELSEWHERE, HERE, ORPHAN, Socket, TracedKernel, address, closing};

const SECOND: Nanos = 1_000_000_000;

/// One tick of the kernel at most: a difference of its timestamps can be that much too long.
const TICK: Nanos = 10_000_000;

/// The sockets that a scan finds; none of their ports was chosen by connect().
fn found(sockets: &[(Socket, TcpState)]) -> Vec<ScannedSocket> {
    let found = sockets.iter().map(|(socket, state)| ScannedSocket {
        port_by_connect: Some(false),
        ..socket.scanned(*state)
    });
    found.collect()
}

/// Role, port and number of open connections of each row.
fn rows(kernel: &mut TracedKernel) -> Vec<(Role, Common<u16>, u64)> {
    let rows = kernel.rows().into_iter();
    rows.map(|row| (row.identity.role, row.identity.port, row.stats.gauges.open)).collect()
}

#[test]
fn a_client_bound_to_a_port_without_listener_is_no_server() {
    let client = Socket { local: address("127.0.0.1:903"), ..Socket::client(1, 903) };
    let mut kernel = TracedKernel::traced();
    kernel.scan(HERE, &found(&[(client, Established)]));
    assert_eq!(rows(&mut kernel), [(Role::Unknown, Common::Unknown, 1)]);
    let connection = kernel.only_connection();
    assert_eq!((connection.role, connection.service_port()), (Role::Unknown, 0));
}

#[test]
fn connections_of_unknown_role_share_a_row_per_namespace() {
    let mut kernel = TracedKernel::traced();
    let here: Vec<_> =
        (1..=5).map(|id| (Socket::client(id, 900 + id as u16), Established)).collect();
    let elsewhere = Socket { netns: ELSEWHERE, ..Socket::client(6, 910) };
    kernel.scan(HERE, &found(&here));
    kernel.scan(ELSEWHERE, &found(&[(elsewhere, CloseWait)]));
    let snapshot = kernel.tracker.take_snapshot();
    let by = |by| {
        let rows = snapshot.rows(by).into_iter();
        rows.map(|row| (row.identity.role, row.stats.gauges.open)).collect::<Vec<_>>()
    };
    assert_eq!(by(By::Port), [(Role::Unknown, 6)]);
    let mut of_namespaces = by(By::Netns);
    of_namespaces.sort();
    assert_eq!(of_namespaces, [(Role::Unknown, 1), (Role::Unknown, 5)]);
}

#[test]
fn a_listener_decides_the_role_of_its_children_wherever_the_scan_finds_it() {
    let (child, listener) = (Socket::child(1, 80), Socket::listener(2, 80));
    for sockets in
        [[(child, Established), (listener, Listen)], [(listener, Listen), (child, Established)]]
    {
        let mut kernel = TracedKernel::traced();
        kernel.scan(HERE, &found(&sockets));
        assert_eq!(rows(&mut kernel), [(Role::Server, Common::One(80), 1)]);
        assert_eq!(kernel.gaps(), 0);
    }
}

#[test]
fn a_listener_of_another_namespace_decides_nothing() {
    let listener = Socket { netns: ELSEWHERE, ..Socket::listener(2, 80) };
    let mut kernel = TracedKernel::traced();
    kernel.scan(ELSEWHERE, &found(&[(listener, Listen)]));
    kernel.scan(HERE, &found(&[(Socket::child(1, 80), Established)]));
    assert_eq!(kernel.only_connection().role, Role::Unknown);
}

#[test]
fn a_listener_on_another_address_decides_nothing() {
    let client = Socket { local: address("127.0.0.1:904"), ..Socket::client(1, 904) };
    for (listener, role) in [
        ("127.0.0.2:904", Role::Unknown),
        ("[::1]:904", Role::Unknown),
        ("127.0.0.1:904", Role::Server),
        ("0.0.0.0:904", Role::Server),
        ("[::]:904", Role::Server),
    ] {
        let listening = Socket { local: address(listener), ..Socket::listener(2, 904) };
        let mut kernel = TracedKernel::traced();
        kernel.scan(HERE, &found(&[(client, Established), (listening, Listen)]));
        assert_eq!(kernel.only_connection().role, role, "{listener}");
    }
}

#[test]
fn a_listener_younger_than_the_connection_decides_nothing() {
    let client = Socket::client(1, 903);
    let mut kernel = TracedKernel::traced();
    kernel.scan(HERE, &found(&[(client, Established)]));
    kernel.listens(Socket::listener(2, 903), "late");
    kernel.scan(HERE, &found(&[(client, Established), (Socket::listener(2, 903), Listen)]));
    assert_eq!(kernel.only_connection().role, Role::Unknown);
}

/// Whether the scan finds the listener before the child or after it, or the child no longer.
#[test]
fn the_role_of_a_connection_that_moves_before_the_first_scan_awaits_it() {
    let child = Socket { remote: address("198.51.100.7:35420"), ..Socket::child(1, 80) };
    let listener = (Socket::listener(3, 80), Listen);
    for scanned in
        [&[(child, CloseWait), listener][..], &[listener, (child, CloseWait)], &[listener]]
    {
        let mut kernel = TracedKernel::traced();
        kernel.moves(child, (Established, CloseWait));
        if scanned.len() == 1 {
            kernel.moves(child, (CloseWait, LastAck));
            kernel.closes_with(child, LastAck, |_| {});
        }
        assert_eq!((rows(&mut kernel), kernel.tracker.held_records() > 0), (vec![], true));
        kernel.scan(HERE, &found(scanned));
        let open = scanned.len() as u64 - 1;
        assert_eq!(rows(&mut kernel), [(Role::Server, Common::One(80), open)]);
        let closed: Vec<_> = kernel.closed.iter().map(|closed| closed.reason).collect();
        assert_eq!(closed, [CloseReason::ClosedByPeer].repeat(2 - scanned.len()));
        assert_eq!((kernel.gaps(), kernel.tracker.held_records()), (0, 0));
    }
}

#[test]
fn the_first_scan_can_prove_a_client_that_moved_before_it() {
    let client = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::traced();
    kernel.moves(client, (Established, CloseWait));
    let found = ScannedSocket { port_by_connect: Some(true), ..client.scanned(CloseWait) };
    kernel.scan(HERE, &[found]);
    assert_eq!(rows(&mut kernel), [(Role::Client, Common::One(443), 1)]);
    assert_eq!(kernel.gaps(), 0);
}

#[test]
fn the_role_is_unknown_if_the_first_scan_does_not_come() {
    let child = Socket::child(1, 80);
    for ends in [false, true] {
        let mut kernel = TracedKernel::traced();
        kernel.moves(child, (Established, CloseWait));
        match ends {
            true => kernel.tracker.finish(),
            false => kernel.wait(10),
        }
        assert_eq!(kernel.only_connection().role, Role::Unknown);
        assert_eq!(kernel.tracker.held_records(), 0);
    }
}

#[test]
fn a_socket_that_is_reused_before_the_first_scan_keeps_its_earlier_connection() {
    let (child, next) = (Socket::child(1, 80), Socket::client(1, 40_000));
    let mut kernel = TracedKernel::traced();
    kernel.moves(child, (Established, CloseWait));
    kernel.moves(child, (CloseWait, LastAck));
    kernel.closes_with(child, LastAck, |_| {});
    kernel.opens(next, (Close, SynSent), None);
    let closed: Vec<_> = kernel.closed.iter().map(|closed| (closed.role, closed.reason)).collect();
    assert_eq!(closed, [(Role::Unknown, CloseReason::ClosedByPeer)]);
    assert_eq!((kernel.only_connection().role, kernel.gaps()), (Role::Client, 0));
}

/// A client older than the trace closes while the first scan runs: after the scan has found it, or
/// before, so that it finds the TIME_WAIT.
#[test]
fn a_scan_shows_the_role_of_a_client_that_closes_while_it_runs() {
    let client = Socket::client(1, 40_000);
    for is_found_open in [true, false] {
        let mut kernel = TracedKernel::traced();
        kernel.scan_begins(HERE);
        let found = client.scanned(Established);
        let found = ScannedSocket { port_by_connect: Some(true), time: kernel.now, ..found };
        kernel.wait(1);
        kernel.moves(client, (Established, FinWait1));
        kernel.moves(client, (FinWait1, FinWait2));
        kernel.closes_with(client, FinWait2, |end| {
            end.flags = end.flags.with(Flags::FIN_RECEIVED);
        });
        kernel.report(match is_found_open {
            true => Input::ScannedSocket(found),
            false => Input::ScannedTimeWait(ScannedTimeWait {
                fin_wait2: false,
                port_by_connect: Some(true),
                local: client.local,
                remote: client.remote,
                remaining_ms: 60_000,
            }),
        });
        kernel.scan_ends(HERE);
        assert_eq!(kernel.closed[0].role, Role::Client, "{is_found_open}");
        let row = kernel.only_row();
        assert_eq!((row.identity.role, row.stats.time_wait_now), (Role::Client, 1));
    }
}

/// The memory of a client, of which a close is held, becomes that of a child of the listener on port
/// 80: the scan that finds it says nothing about the client.
#[test]
fn a_scan_that_finds_a_reused_socket_leaves_the_role_of_held_records_unknown() {
    let (client, child) = (Socket::client(1, 20_666), Socket::child(1, 80));
    let listener = Socket::listener(2, 80);
    let mut kernel = TracedKernel::traced();
    kernel.moves(client, (Established, FinWait1));
    kernel.moves(client, (FinWait1, FinWait2));
    kernel.closes_with(client, FinWait2, |_| {});
    kernel.wait(1);
    kernel.scan(HERE, &found(&[(listener, Listen), (child, Established)]));
    assert_eq!(kernel.closed[0].role, Role::Unknown);
    assert_eq!(kernel.only_connection().role, Role::Server);
}

/// The same if the client closes after the scan has passed the place of its TIME_WAIT.
#[test]
fn a_running_scan_notes_the_time_waits_of_held_records() {
    let (client, child) = (Socket::client(1, 20_666), Socket::child(1, 80));
    let mut kernel = TracedKernel::traced();
    kernel.scan_begins(HERE);
    kernel.scan_finds(Socket::listener(2, 80), Listen);
    kernel.wait(1);
    kernel.moves(client, (FinWait1, FinWait2));
    kernel.closes_with(client, FinWait2, |end| end.flags = end.flags.with(Flags::FIN_RECEIVED));
    kernel.wait(1);
    kernel.scan_finds(child, Established);
    kernel.scan_ends(HERE);
    let rows = kernel.rows().into_iter();
    let time_waits: Vec<_> = rows.map(|row| (row.identity.role, row.stats.time_wait_now)).collect();
    assert_eq!(time_waits, [(Role::Server, 0), (Role::Unknown, 1)]);
}

/// Many connections older than the trace close before the first scan, while the kernel's TIME_WAIT table
/// is full.
#[test]
fn the_time_wait_kinds_of_held_closes_are_kept() {
    let count: u16 = 200;
    let mut kernel = TracedKernel::traced().with_all_hooks();
    for port in 0..count {
        let client = Socket::client(u64::from(port) + 1, 40_000 + port);
        kernel.enters_time_wait(client, TimeWaitKind::Nothing);
        kernel.closes(client, FinWait2, ORPHAN.with(Flags::FIN_RECEIVED), 0);
    }
    assert_eq!(kernel.tracker.held_records(), u64::from(count));
    kernel.scan(HERE, &[]);
    let overflowed = kernel.closed.iter().filter(|closed| closed.time_wait == Some(false)).count();
    assert_eq!(overflowed, usize::from(count));
}

/// The same if records of both are held, those between them are lost, and a scan shows the later one.
#[test]
fn held_records_of_a_reused_socket_are_of_two_connections() {
    let (client, child) = (Socket::client(1, 20_666), Socket::child(1, 80));
    let listener = Socket::listener(2, 80);
    let mut kernel = TracedKernel::traced();
    kernel.moves(client, (Established, FinWait1));
    kernel.moves(child, (Established, CloseWait));
    kernel.scan(HERE, &found(&[(listener, Listen), (child, CloseWait)]));
    let closed: Vec<_> = kernel.closed.iter().map(|closed| (closed.role, closed.reason)).collect();
    assert_eq!(closed, [(Role::Unknown, CloseReason::LostSight)]);
    assert_eq!(kernel.only_connection().role, Role::Server);
}

#[test]
fn a_handshake_that_only_a_client_begins_proves_a_client() {
    let client = Socket::client(1, 903);
    let mut kernel = TracedKernel::traced();
    kernel.moves(client, (SynSent, Established));
    assert_eq!(kernel.only_connection().role, Role::Client);
    let mut kernel = TracedKernel::traced();
    kernel.scan(HERE, &found(&[(client, SynSent)]));
    assert_eq!(kernel.only_connection().role, Role::Client);
}

#[test]
fn a_connection_of_unknown_role_closes_in_its_row() {
    let client = Socket::client(1, 903);
    let mut kernel = TracedKernel::traced();
    kernel.scan(HERE, &found(&[(client, Established)]));
    kernel.moves(client, (Established, FinWait1));
    kernel.moves(client, (FinWait1, FinWait2));
    kernel.closes_with(client, FinWait2, |end| {
        end.flags = Flags::HAS_SOCKET.with(Flags::FIN_RECEIVED);
        end.closing = Some(closing(101, 51));
    });
    let closed = kernel.closed[0].clone();
    assert_eq!((closed.role, closed.reason), (Role::Unknown, CloseReason::ClosedByUs));
    // A client's SYN counts as a byte.
    assert_eq!((closed.bytes_sent, closed.bytes_received), (None, Some(50)));
    let row = kernel.only_row();
    assert_eq!((row.identity.role, row.stats.time_wait_now), (Role::Unknown, 1));
}

#[test]
fn the_filters_do_not_admit_what_the_role_must_decide() {
    let client = Socket::client(1, 903);
    let of_ports = |ports: &str| Filter {
        service_ports: ports.split(',').map(|port| port.parse().unwrap()).collect(),
        ..Filter::default()
    };
    for (filter, connections) in [
        (Filter { role: Some(Role::Server), ..Filter::default() }, 0),
        (Filter { role: Some(Role::Client), ..Filter::default() }, 0),
        (of_ports("903"), 0),
        (of_ports("443"), 0),
        (of_ports("443,903"), 1),
        (Filter { local_ports: vec!["903".parse().unwrap()], ..Filter::default() }, 1),
    ] {
        let mut kernel = TracedKernel::filtered(filter.clone());
        kernel.scan(HERE, &found(&[(client, Established)]));
        assert_eq!(kernel.tracker.open().len(), connections, "{filter:?}");
    }
    // With its listener, even if the scan finds that later, it is decided.
    let mut kernel = TracedKernel::filtered(of_ports("80"));
    kernel.scan(
        HERE,
        &found(&[(Socket::child(1, 80), Established), (Socket::listener(2, 80), Listen)]),
    );
    assert_eq!(kernel.only_connection().role, Role::Server);
}

#[test]
fn the_last_activity_of_a_connection_bounds_its_age() {
    let sock = Socket::client(1, 40_000);
    // Milliseconds since the last segment, since data was received and since data was sent; then
    // the known ages of the connection and of its state.
    for (state, idle, received, sent, age, in_state) in [
        (Established, Some(68_000), Some(68_000), Some(70_000), 70, 70),
        (Established, Some(5_000), Some(90_000), None, 90, 90),
        (Established, None, None, None, 0, 0),
        // The FIN, or the ACK of ours, was the last segment or came before it.
        (CloseWait, Some(8_000), Some(30_000), Some(20_000), 30, 8),
        (FinWait2, Some(8_000), Some(30_000), Some(20_000), 30, 8),
        (Closing, Some(8_000), None, None, 8, 8),
        // When this host closes, nothing is received.
        (LastAck, Some(8_000), Some(30_000), Some(20_000), 30, 0),
        (FinWait1, Some(8_000), Some(30_000), Some(20_000), 30, 0),
        // An earlier connection of the socket may have left these.
        (SynSent, Some(8_000), Some(30_000), Some(20_000), 0, 0),
    ] {
        let mut kernel = TracedKernel::traced();
        kernel.wait(200);
        let found_at = kernel.now + kernel.step;
        let (idle_ms, data_received_ms, data_sent_ms) = (idle, received, sent);
        let found =
            ScannedSocket { idle_ms, data_received_ms, data_sent_ms, ..sock.scanned(state) };
        kernel.scan(HERE, &[found]);
        let connection = kernel.only_connection();
        let known = |seconds: u64| found_at - (seconds * SECOND).saturating_sub(TICK);
        assert_eq!(
            (connection.first_seen, connection.last_transition),
            (known(age), known(in_state)),
            "{state:?} {idle:?} {received:?} {sent:?}"
        );
        assert!(connection.is_adopted() && connection.state_since_is_lower_bound());
    }
}

#[test]
fn a_connection_is_not_older_than_the_clock() {
    let mut kernel = TracedKernel::traced();
    let found = Socket::client(1, 40_000).scanned(Established);
    kernel.scan(HERE, &[ScannedSocket { idle_ms: Some(u32::MAX - 1), ..found }]);
    assert!(kernel.only_connection().first_seen <= kernel.now);
}

#[test]
fn the_oldest_close_wait_is_as_old_as_its_last_segment() {
    let mut kernel = TracedKernel::traced();
    kernel.wait(200);
    let found_at = kernel.now + kernel.step;
    let found = Socket::client(1, 40_000).scanned(CloseWait);
    kernel.scan(HERE, &[ScannedSocket { idle_ms: Some(68_000), ..found }]);
    let index = LINGERING_STATES.iter().position(|&state| state == CloseWait).expect("it lingers");
    let oldest = kernel.only_row().stats.oldest[index].clone().expect("one");
    assert_eq!((oldest.since, oldest.at_least), (found_at - 68 * SECOND + TICK, true));
}

#[test]
fn the_first_scan_shows_the_age_of_a_connection_that_a_record_revealed() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::traced();
    kernel.wait(200);
    let moved = kernel.now;
    kernel.moves(sock, (Established, FinWait1));
    let found_at = kernel.now + kernel.step;
    let found = ScannedSocket { data_sent_ms: Some(50_000), ..sock.scanned(FinWait1) };
    kernel.scan(HERE, &[found]);
    let connection = kernel.only_connection();
    assert_eq!(connection.first_seen, found_at - 50 * SECOND + TICK);
    assert_eq!(connection.last_transition, moved, "it was observed");
    assert!(!connection.state_since_is_lower_bound());
}

#[test]
fn a_state_that_a_scan_found_began_after_the_one_before() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.connection(sock, &[SynSent, Established]);
    let established = kernel.now;
    for (seconds, idle_ms) in [(60, 40_000), (1, 500_000)] {
        kernel.wait(seconds);
        let found_at = kernel.now + kernel.step;
        let state = if seconds == 60 { CloseWait } else { FinWait2 };
        kernel.scan(HERE, &[ScannedSocket { idle_ms: Some(idle_ms), ..sock.scanned(state) }]);
        let since = kernel.only_connection().last_transition;
        assert!(since >= established && since < found_at, "{state:?}");
        if seconds == 60 {
            assert_eq!(since, found_at - 40 * SECOND + TICK);
        }
    }
}

#[test]
fn a_last_record_shows_how_long_the_connection_had_been_idle() {
    let sock = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::traced();
    kernel.wait(200);
    let mut end = sock.transition(kernel.now, (Established, Close));
    end.closing = Some(Closing { idle_ms: Some(30_000), ..closing(0, 0) });
    kernel.report(Input::Transition(end));
    kernel.finish();
    let closed = &kernel.closed[0];
    assert_eq!(closed.closed - closed.since, 30 * SECOND - TICK);
    assert_eq!(closed.opened, None);
}

/// Whether its port has a listener when the socket is restored or later, or connect() chose it.
#[test]
fn a_restored_connection_is_a_servers_if_its_port_has_a_listener() {
    let (sock, listener) = (Socket::child(1, 80), Socket::listener(2, 80));
    let cases = [
        (true, false, Role::Server),
        (false, true, Role::Server),
        (false, false, Role::Unknown),
        (false, false, Role::Client),
    ];
    for (listens_before, listens_later, role) in cases {
        let mut kernel = TracedKernel::scanned();
        if listens_before {
            kernel.listens(listener, "restored");
        }
        for states in [(Close, SynSent), (SynSent, Established)] {
            kernel.moves_with(sock, states, |record| {
                record.flags = record.flags.with(Flags::REPAIR);
            });
        }
        assert_eq!(kernel.tracker.held_records() > 0, !listens_before, "{role:?}");
        let mut sockets = found(&[(sock, Established)]);
        sockets[0].port_by_connect = Some(role == Role::Client);
        if listens_before || listens_later {
            sockets.extend(found(&[(listener, Listen)]));
        }
        kernel.scan(HERE, &sockets);
        let connection = kernel.only_connection();
        assert_eq!((connection.role, connection.is_adopted()), (role, true));
        assert_eq!(connection.handshake, Some(Handshake::Unmeasured(Unmeasured::Repair)));
        assert_eq!((kernel.gaps(), kernel.tracker.held_records()), (0, 0), "{role:?}");
    }
}

#[test]
fn filters_that_need_no_role_admit_time_waits_of_unknown_role() {
    let bound = Socket { local: address("192.0.2.1:903"), ..Socket::client(1, 903) };
    let none = Filter::default();
    let port = |port: u16| vec![port.to_string().parse().unwrap()];
    let network = |text: &str| vec![text.parse().unwrap()];
    for (filter, is_admitted) in [
        (none.clone(), true),
        (Filter { namespaces: vec![HERE], ..none.clone() }, true),
        (Filter { local: network("192.0.2.0/24"), ..none.clone() }, true),
        (Filter { local_ports: port(903), ..none.clone() }, true),
        (Filter { local_ports: port(904), ..none.clone() }, false),
        (Filter { service_ports: port(903), ..none.clone() }, false),
        (Filter { role: Some(Role::Client), ..none.clone() }, false),
        (Filter { pids: vec![700], ..none.clone() }, false),
    ] {
        let mut kernel = TracedKernel::filtered(filter.clone());
        kernel.scan_begins(HERE);
        kernel.report(Input::ScannedTimeWait(ScannedTimeWait {
            fin_wait2: false,
            port_by_connect: Some(false),
            local: bound.local,
            remote: bound.remote,
            remaining_ms: 30_000,
        }));
        kernel.scan_ends(HERE);
        let rows = kernel.rows().into_iter();
        let time_waits: u64 = rows.map(|row| row.stats.time_wait_now).sum();
        assert_eq!(time_waits, u64::from(is_admitted), "{filter:?}");
    }
}
