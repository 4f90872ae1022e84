//! Use of the ephemeral ports toward a destination, and the forecast of their exhaustion.

use std::net::SocketAddr;

use synfin::{
    tcp::{group_by::By, role::Role},
    trace::scan::{EphemeralPorts, TimeWaitReuse},
    tracker::Ephemeral,
};
use synfin_common::state::TcpState::{self, *};
use synfin_testkit::{HERE, Socket, TracedKernel, address};

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

#[test]
fn each_local_address_has_all_ports() {
    let to = address("192.0.2.80:443");
    let [one, other] = ["192.0.2.1:40001", "192.0.2.2:40001"].map(|local| Socket {
        local: address(local),
        remote: to,
        ..Socket::client(1, 40_001)
    });
    let other = Socket { id: 2, ..other };
    for preexisting in [false, true] {
        let mut kernel = TracedKernel::traced();
        kernel.ephemeral_ports = Some(hundred_ports(TimeWaitReuse::Never));
        let found = |sock: Socket| synfin::trace::scan::ScannedSocket {
            port_by_connect: Some(true),
            ..sock.scanned(Established)
        };
        if preexisting {
            kernel.scan(HERE, &[found(one), found(other)]);
        } else {
            kernel.scan(HERE, &[]);
            kernel.connection(one, &[SynSent, Established]);
            kernel.connection(other, &[SynSent, Established]);
        }
        let found = only_ephemeral(&mut kernel);
        assert_eq!((found.used, found.ports), (2, 200), "preexisting: {preexisting}");
    }
}
