//! Use of the ephemeral ports toward a destination, and the forecast of their exhaustion.

use std::net::SocketAddr;

use synfin::{
    findings::diagnose,
    tcp::{close_reason::CloseReason, group_by::By, role::Role},
    trace::{
        accept_queue::AcceptQueue,
        event::{Opening, TimeWaitKind},
        ids::Comm,
        scan::{EphemeralPorts, ScannedSocket, TimeWaitReuse},
        session::Session,
    },
    tracker::Ephemeral,
};
use synfin_common::{
    event::Flags,
    state::TcpState::{self, *},
};
use synfin_testkit::{HERE, ORPHAN, Socket, TracedKernel, address};

/// A range of 100 ports.
fn hundred_ports(reuse: TimeWaitReuse) -> EphemeralPorts {
    EphemeralPorts { first: 40_000, last: 40_099, reserved: 0, reuse, reuse_after_ms: 1000 }
}

/// A kernel whose namespaces have these settings for ephemeral ports.
fn with_ports(ephemeral_ports: Option<EphemeralPorts>) -> TracedKernel {
    let mut kernel = TracedKernel::traced();
    kernel.ephemeral_ports = ephemeral_ports;
    kernel.scan(HERE, &[]);
    kernel
}

/// A process with this name connects to a destination from the next port.
fn connects(kernel: &mut TracedKernel, owner: &str, to: SocketAddr, id: u64) -> Socket {
    let sock = Socket { remote: to, ..Socket::client(id, 40_000 + id as u16) };
    kernel.opens(sock, (Close, SynSent), Some((700, owner.as_bytes())));
    kernel.moves(sock, (SynSent, Established));
    sock
}

/// Both sides close the connection, and a TIME_WAIT follows.
fn closes(kernel: &mut TracedKernel, sock: Socket) {
    for states in
        [(Established, FinWait1), (FinWait1, TcpState::Closing), (TcpState::Closing, Close)]
    {
        kernel.moves(sock, states);
    }
}

fn ephemeral(kernel: &mut TracedKernel, by: By) -> Vec<Option<Ephemeral>> {
    let rows = kernel.tracker.take_snapshot().rows(by).into_iter();
    rows.filter(|row| row.identity.role == Role::Client).map(|row| row.stats.ephemeral).collect()
}

fn only_ephemeral(kernel: &mut TracedKernel) -> Ephemeral {
    let [Some(found)] = ephemeral(kernel, By::Port)[..] else {
        panic!("expected one row with ports")
    };
    found
}

#[test]
fn all_processes_share_the_ports_toward_a_destination() {
    let to = address("192.0.2.80:443");
    let mut kernel = with_ports(Some(hundred_ports(TimeWaitReuse::Never)));
    for id in 0..40 {
        connects(&mut kernel, if id % 2 == 0 { "one" } else { "other" }, to, id);
    }
    for id in 40..70 {
        let sock = connects(&mut kernel, "one", to, id);
        closes(&mut kernel, sock);
    }
    let found = only_ephemeral(&mut kernel);
    assert_eq!((found.remote, found.used, found.ports, found.share()), (to.ip(), 70, 100, 0.7));
    // The row of each owner also counts the ports that the other owner has taken.
    kernel.wait(1);
    let by_owner = ephemeral(&mut kernel, By::Owner);
    assert_eq!(by_owner.len(), 2);
    assert!(
        by_owner.iter().all(|found| found.is_some_and(|found| found.used == 70)),
        "{by_owner:?}"
    );
}

#[test]
fn each_destination_has_all_ports_and_the_fullest_is_shown() {
    let [one, other] = [address("192.0.2.80:443"), address("192.0.2.81:443")];
    let mut kernel = with_ports(Some(hundred_ports(TimeWaitReuse::Never)));
    for id in 0..10 {
        connects(&mut kernel, "one", one, id);
    }
    for id in 10..40 {
        connects(&mut kernel, "one", other, id);
    }
    // The same address with another port is another destination.
    for id in 40..90 {
        connects(&mut kernel, "one", address("192.0.2.80:80"), id);
    }
    let rows = kernel.tracker.take_snapshot().rows(By::Port);
    let found: Vec<_> =
        rows.iter().filter_map(|row| row.stats.ephemeral).map(|it| (it.remote, it.used)).collect();
    assert_eq!(found, [(one.ip(), 50), (other.ip(), 30)]);
    let mut by_remote: Vec<_> =
        ephemeral(&mut kernel, By::Remote).into_iter().flatten().map(|it| it.used).collect();
    by_remote.sort_unstable();
    assert_eq!(by_remote, [10, 30, 50]);
}

#[test]
fn without_settings_port_use_is_unknown() {
    let to = address("192.0.2.80:443");
    let mut kernel = with_ports(None);
    connects(&mut kernel, "one", to, 1);
    assert_eq!(ephemeral(&mut kernel, By::Port), [None]);
    // A later scan finds the settings; a scan that fails to read them does not forget them.
    kernel.ephemeral_ports = Some(hundred_ports(TimeWaitReuse::Never));
    let sock = Socket { remote: to, ..Socket::client(1, 40_001) };
    kernel.scan(HERE, &[sock.scanned(Established)]);
    assert_eq!(only_ephemeral(&mut kernel).used, 1);
    kernel.ephemeral_ports = None;
    kernel.scan(HERE, &[sock.scanned(Established)]);
    assert_eq!(only_ephemeral(&mut kernel).ports, 100);
}

#[test]
fn servers_use_no_ephemeral_ports() {
    let mut kernel = with_ports(Some(hundred_ports(TimeWaitReuse::Never)));
    kernel.listens(Socket::listener(1, 80), "server");
    kernel.connection(Socket::child(2, 80), &[SynRecv, Established]);
    assert_eq!(kernel.row(Role::Server, 80).stats.ephemeral, None);
}

#[test]
fn attempts_use_ports_and_expired_time_waits_do_not() {
    let to = address("192.0.2.80:443");
    let mut kernel = with_ports(Some(hundred_ports(TimeWaitReuse::Never)));
    let sock = connects(&mut kernel, "one", to, 0);
    closes(&mut kernel, sock);
    for id in 1..4 {
        kernel.connection(Socket { remote: to, ..Socket::client(id, 40_000) }, &[SynSent]);
    }
    assert_eq!(only_ephemeral(&mut kernel).used, 4);
    kernel.wait(70);
    assert_eq!(only_ephemeral(&mut kernel).used, 3);
}

/// The forecast after `seconds`, in each of which one connection opens and stays, and two open
/// and close.
fn forecast(reuse: TimeWaitReuse, seconds: u64) -> Ephemeral {
    let to = address("192.0.2.80:443");
    let mut kernel = with_ports(Some(hundred_ports(reuse)));
    kernel.rows();
    for second in 0..seconds {
        connects(&mut kernel, "one", to, 3 * second);
        for (owner, id) in [("one", 3 * second + 1), ("other", 3 * second + 2)] {
            let sock = connects(&mut kernel, owner, to, id);
            closes(&mut kernel, sock);
        }
        kernel.wait(1);
    }
    only_ephemeral(&mut kernel)
}

#[test]
fn exhaustion_is_extrapolated_from_the_rate_of_the_interval() {
    let found = forecast(TimeWaitReuse::Never, 10);
    assert_eq!(found.used, 30);
    // 70 ports are left, and three are taken per second.
    let seconds = found.exhausted_in.expect("a forecast");
    assert!((23.0..=24.0).contains(&seconds), "{seconds}");
}

#[test]
fn with_time_wait_reuse_only_open_connections_use_ports() {
    let found = forecast(TimeWaitReuse::Always, 10);
    assert_eq!(found.used, 30);
    // 10 are open, and two TIME_WAITs are always too young: 88 are left, and one is taken per second.
    let seconds = found.exhausted_in.expect("a forecast");
    assert!((86.0..=90.0).contains(&seconds), "{seconds}");
}

#[test]
fn without_growth_ports_are_never_exhausted() {
    let to = address("192.0.2.80:443");
    let mut kernel = with_ports(Some(hundred_ports(TimeWaitReuse::Never)));
    for id in 0..50 {
        connects(&mut kernel, "one", to, id);
    }
    kernel.wait(10);
    assert!(only_ephemeral(&mut kernel).exhausted_in.is_some(), "use grew within the interval");
    kernel.wait(10);
    let found = only_ephemeral(&mut kernel);
    assert_eq!((found.used, found.exhausted_in), (50, None));
}

#[test]
fn with_all_ports_used_none_are_left() {
    let to = address("192.0.2.80:443");
    let mut kernel = with_ports(Some(hundred_ports(TimeWaitReuse::Never)));
    for id in 0..100 {
        connects(&mut kernel, "one", to, id);
    }
    kernel.wait(1);
    let found = only_ephemeral(&mut kernel);
    assert_eq!((found.share(), found.exhausted_in), (1.0, Some(0.0)));
}

/// The sockets of clients with these local addresses, and a port each.
fn clients(locals: &[(&str, u16)], to: SocketAddr) -> Vec<Socket> {
    let clients = locals.iter().zip(1..).map(|(&(local, port), id)| {
        let local = SocketAddr::new(local.parse().expect("an address"), port);
        Socket { local, remote: to, ..Socket::client(id, port) }
    });
    clients.collect()
}

/// What a scan shows of a client whose port connect() or bind() chose.
fn found(sock: Socket, port_by_connect: bool) -> ScannedSocket {
    ScannedSocket { port_by_connect: Some(port_by_connect), ..sock.scanned(Established) }
}

#[test]
fn each_local_address_has_all_ports_and_the_fullest_is_reported() {
    let to = address("192.0.2.80:443");
    let (one, other) = ("192.0.2.1", "192.0.2.2");
    let clients = clients(&[(one, 40_001), (other, 40_001), (other, 40_002)], to);
    for preexisting in [false, true] {
        let mut kernel = TracedKernel::traced();
        kernel.ephemeral_ports = Some(hundred_ports(TimeWaitReuse::Never));
        if preexisting {
            let found: Vec<_> = clients.iter().map(|&client| found(client, true)).collect();
            kernel.scan(HERE, &found);
        } else {
            kernel.scan(HERE, &[]);
            for client in &clients {
                kernel.connection(*client, &[SynSent, Established]);
            }
            // A TIME_WAIT keeps its address.
            closes(&mut kernel, clients[2]);
        }
        let found = only_ephemeral(&mut kernel);
        assert_eq!((found.used, found.ports), (2, 100), "preexisting: {preexisting}");
        assert_eq!(found.local, Some(other.parse().expect("an address")));
        assert!(!found.is_shared);
    }
}

/// An application closes its connections, and the peer does not.
fn leaves_orphans() -> TracedKernel {
    let mut kernel = TracedKernel::traced().with_all_hooks();
    kernel.ephemeral_ports =
        Some(EphemeralPorts { last: 40_019, ..hundred_ports(TimeWaitReuse::Never) });
    kernel.scan(HERE, &[]);
    for id in 0..20 {
        let sock = connects(&mut kernel, "one", address("192.0.2.80:443"), id);
        kernel.moves(sock, (Established, FinWait1));
        kernel.moves(sock, (FinWait1, FinWait2));
        kernel.enters_time_wait(sock, TimeWaitKind::FinWait2);
        kernel.closes(sock, FinWait2, ORPHAN, 0);
    }
    kernel
}

#[test]
fn orphans_in_fin_wait2_hold_their_ports_until_they_are_gone() {
    let mut kernel = leaves_orphans();
    let sock = |id: u64| Socket::client(id, 40_000 + id as u16);
    let mut used = vec![only_ephemeral(&mut kernel).used];
    kernel.wait(20);
    used.push(only_ephemeral(&mut kernel).used);
    // Scans find them, and nothing else.
    kernel.scan_begins(HERE);
    (0..20).for_each(|id| kernel.scan_finds_timewait_socket(sock(id), true, 40_000));
    kernel.scan_ends(HERE);
    used.push(only_ephemeral(&mut kernel).used);
    // The peer of one closes: its port is held for another minute.
    kernel.leaves_fin_wait2(sock(0));
    kernel.wait(39);
    let snapshot = kernel.tracker.take_snapshot();
    let seen = &diagnose(&Session::default(), &snapshot)[0].seen;
    assert!(seen.contains("20 of 20 ports") && seen.contains("mostly by FIN_WAIT2"), "{seen}");
    let found = snapshot.rows(By::Port)[0].stats.ephemeral.expect("ports");
    used.push(found.used);
    assert_eq!((found.share(), found.exhausted_in), (1.0, Some(0.0)));
    (1..6).for_each(|id| kernel.time_wait_ends(sock(id)));
    used.push(only_ephemeral(&mut kernel).used);
    assert_eq!(used, [20, 20, 20, 20, 15]);
}

#[test]
fn ports_that_bind_took_are_shared_by_all_destinations() {
    let to = ["192.0.2.80:443", "192.0.2.81:443", "192.0.2.82:443"].map(address);
    for preexisting in [false, true] {
        let mut kernel = with_ports(Some(hundred_ports(TimeWaitReuse::Always)));
        let sockets: Vec<_> = (0..100_u16)
            .map(|n| Socket {
                remote: to[usize::from(n % 3)],
                ..Socket::client(u64::from(n) + 1, 40_000 + n)
            })
            .collect();
        if preexisting {
            // Nothing proves their role, so that no destination has a row.
            let found: Vec<_> = sockets.iter().map(|&sock| found(sock, false)).collect();
            kernel.scan(HERE, &found);
        } else {
            for &sock in &sockets {
                kernel.moves_with(sock, (Close, SynSent), |first| {
                    first.opening = Some(Opening {
                        cgroup: 1,
                        accept_queue: AcceptQueue::default(),
                        comm: Comm::default(),
                        ..Opening::default()
                    });
                });
                kernel.moves(sock, (SynSent, Established));
            }
            // bind() reuses no TIME_WAIT.
            closes(&mut kernel, sockets[0]);
        }
        let by_remote: Vec<_> = ephemeral(&mut kernel, By::Remote).into_iter().flatten().collect();
        assert_eq!(by_remote.len(), if preexisting { 0 } else { 3 });
        for found in by_remote {
            assert_eq!((found.used, found.ports, found.is_shared), (100, 100, true), "{found:?}");
            assert_eq!(found.exhausted_in, Some(0.0), "{found:?}");
        }
        // For connect() they are taken as well, even from another address.
        let other = clients(&[("192.0.2.9", 40_000)], address("192.0.2.99:80"))[0];
        kernel.opens(Socket { id: 999, ..other }, (Close, SynSent), None);
        let found = kernel.row(Role::Client, 80).stats.ephemeral.expect("ports");
        assert_eq!((found.used, found.is_shared), (101, false), "preexisting: {preexisting}");
    }
}

#[test]
fn ports_outside_the_range_are_not_ephemeral() {
    let mut kernel = with_ports(Some(hundred_ports(TimeWaitReuse::Never)));
    let to = address("192.0.2.80:443");
    for client in clients(&[("192.0.2.1", 903), ("192.0.2.1", 40_100)], to) {
        kernel.connection(client, &[SynSent, Established]);
    }
    kernel.listens(Socket::listener(7, 40_050), "server");
    let found = only_ephemeral(&mut kernel);
    // connect() skips the port of a listener.
    assert_eq!((found.used, found.local), (1, None));
}

#[test]
fn connections_older_than_the_trace_are_no_growth() {
    let mut kernel = with_ports(Some(hundred_ports(TimeWaitReuse::Always)));
    let to = address("192.0.2.80:443");
    let locals: Vec<_> = (0..50).map(|n| ("192.0.2.1", 40_000 + n)).collect();
    let found = |client| ScannedSocket {
        data_sent_ms: Some(5_000),
        idle_ms: Some(5_000),
        ..found(client, true)
    };
    let found: Vec<_> = clients(&locals, to).into_iter().map(found).collect();
    kernel.scan(HERE, &found);
    kernel.wait(10);
    let found = only_ephemeral(&mut kernel);
    assert_eq!((found.used, found.exhausted_in), (50, None));
}

#[test]
fn a_share_that_connect_contradicts_is_unknown() {
    let mut kernel = with_ports(Some(hundred_ports(TimeWaitReuse::Never)));
    for id in 1..=3 {
        let sock = Socket::client(id, 40_000);
        kernel.opens(sock, (Close, SynSent), None);
        kernel.closes(sock.unbound(), SynSent, Flags::HAS_SOCKET, 0);
    }
    let snapshot = kernel.tracker.take_snapshot();
    let [finding] = &diagnose(&Session::default(), &snapshot)[..] else { panic!("one finding") };
    assert_eq!(finding.rule.id, "ports_run_out");
    let seen = &finding.seen;
    assert!(seen.contains("connect() found no free port 3 times") && !seen.contains('%'), "{seen}");
    assert!(
        seen.contains("only 0 of 100 ports toward 192.0.2.80 are known to be in use"),
        "{seen}"
    );
    let stats = &snapshot.rows(By::Port)[0].stats;
    assert_eq!(stats.counters.ended(CloseReason::ConnectLocalFailure), 3);
    let ports = stats.ephemeral.expect("ports");
    assert_eq!((ports.used, ports.ports, stats.ephemeral_share()), (0, 100, None));
}
