//! Owners: connections belong to the processes that hold them, and those of a listener to its holder.

use synfin::{
    tcp::role::Role,
    trace::{
        event::{Input, Opening, ParentListener},
        filter::Filter,
        ids::{ListenerId, SockId},
        scan::SocketHolder,
    },
    tracker::{Common, Limits},
};
use synfin_common::{
    event::Flags,
    state::TcpState::{self, *},
};
use synfin_testkit::{HERE, ORPHAN, SECOND, Socket, TracedKernel};

/// The process that FakeKernel::listens names.
const LISTENER: u32 = 700;

/// A process that holds a socket: its id, its parent's, its name, and when it started.
type Process = (u32, u32, &'static str, u64);

/// A scan of open files finds these holders.
fn held(kernel: &mut TracedKernel, holders: &[(SockId, Process)]) {
    let holder = |&(sock, (pid, parent, comm, started)): &(SockId, Process)| SocketHolder {
        time: kernel.now,
        sock,
        started,
        pid,
        parent,
        comm: comm.into(),
        cgroup: 0,
    };
    let holders = holders.iter().map(holder).collect();
    kernel.report(Input::SocketHolders(holders));
}

fn owner(kernel: &TracedKernel, socket: Socket) -> (String, Option<u32>) {
    let (_, open) = kernel.tracker.open().find(|(sock, _)| *sock == socket.id).expect("it is open");
    open.owner.as_ref().map_or_else(Default::default, |it| (it.label.name.to_string(), it.pid))
}

fn named(name: &str, pid: u32) -> (String, Option<u32>) {
    (name.to_owned(), Some(pid))
}

/// A server that has accepted a connection.
fn accepted() -> (TracedKernel, Socket, Socket) {
    let (listener, child) = (Socket::listener(1, 80), Socket::child(2, 80));
    let mut kernel = TracedKernel::scanned();
    kernel.listens(listener, "server");
    kernel.connection(child, &[SynRecv, Established]);
    assert_eq!(owner(&kernel, child), named("server", LISTENER));
    (kernel, listener, child)
}

/// Moves through states by an act of this process.
fn acts(kernel: &mut TracedKernel, socket: Socket, states: (TcpState, TcpState), pid: u32) {
    kernel.moves_with(socket, states, |transition| {
        transition.pid = Some(pid);
        transition.flags = transition.flags.with(Flags::BY_OWNER);
    });
}

#[test]
fn a_connection_that_was_handed_on_is_its_holders() {
    let (mut kernel, listener, child) = accepted();
    let parent = (LISTENER, 1, "server", 1);
    let worker = (701, LISTENER, "worker", 2);
    kernel.now += SECOND;
    // Both hold it after fork(): the owner remains.
    held(&mut kernel, &[(listener.id, parent), (child.id, parent), (child.id, worker)]);
    assert_eq!(owner(&kernel, child), named("server", LISTENER));
    // The parent closes its descriptor; then the child calls execve().
    held(&mut kernel, &[(listener.id, parent), (child.id, worker)]);
    assert_eq!(owner(&kernel, child), named("worker", 701));
    held(&mut kernel, &[(listener.id, parent), (child.id, (701, LISTENER, "sleep", 2))]);
    assert_eq!(owner(&kernel, child), named("sleep", 701));
    // SCM_RIGHTS: to a process that is no relative.
    held(&mut kernel, &[(listener.id, parent), (child.id, (900, 1, "stranger", 1))]);
    assert_eq!(owner(&kernel, child), named("stranger", 900));
    // A scan for listeners only says nothing about it.
    held(&mut kernel, &[(listener.id, parent)]);
    assert_eq!(owner(&kernel, child), named("stranger", 900));
    let row = kernel.only_row();
    assert_eq!(row.stats.gauges.open, 1);
}

#[test]
fn close_wait_is_named_after_its_holder() {
    let (mut kernel, listener, child) = accepted();
    kernel.moves(child, (Established, CloseWait));
    held(
        &mut kernel,
        &[(listener.id, (LISTENER, 1, "server", 1)), (child.id, (800, 1, "sleep", 1))],
    );
    let oldest = |kernel: &mut TracedKernel| {
        let row = kernel.row(Role::Server, 80);
        let oldest = row.stats.oldest.iter().flatten().next().expect("a connection in CLOSE_WAIT");
        oldest.owner.as_ref().map(|owner| (owner.label.name.to_string(), owner.pid))
    };
    assert_eq!(oldest(&mut kernel), Some(named("sleep", 800)));
    // The holder closes it.
    acts(&mut kernel, child, (CloseWait, LastAck), 800);
    kernel.closes(child, LastAck, ORPHAN, 0);
    let closed = kernel.closed.last().expect("it is closed").owner.clone().expect("an owner");
    assert_eq!((closed.label.name.to_string(), closed.pid), named("sleep", 800));
}

#[test]
fn the_end_belongs_to_the_holder_that_acts() {
    let (mut kernel, listener, child) = accepted();
    let server = (LISTENER, 1, "server", 1);
    held(
        &mut kernel,
        &[(listener.id, server), (child.id, server), (child.id, (701, 1, "peer", 1))],
    );
    assert_eq!(owner(&kernel, child), named("server", LISTENER));
    acts(&mut kernel, child, (Established, FinWait1), 701);
    assert_eq!(owner(&kernel, child), named("peer", 701));
}

#[test]
fn of_several_holders_the_lowest_id_owns_a_connection_that_was_handed_on() {
    let (mut kernel, listener, child) = accepted();
    let server = (listener.id, (LISTENER, 1, "server", 1));
    held(&mut kernel, &[server, (child.id, (902, 1, "b", 1)), (child.id, (901, 1, "c", 1))]);
    assert_eq!(owner(&kernel, child), named("c", 901));
    // Processes of one name are one owner.
    let (mut kernel, listener, child) = accepted();
    let server = (listener.id, (LISTENER, 1, "server", 1));
    held(
        &mut kernel,
        &[server, (child.id, (902, 1, "sleep", 1)), (child.id, (901, 1, "sleep", 1))],
    );
    assert_eq!(owner(&kernel, child), ("sleep".to_owned(), None));
}

#[test]
fn a_client_that_was_handed_on_stays_in_its_row() {
    let client = Socket::client(1, 40_000);
    let mut kernel = TracedKernel::scanned();
    kernel.opens(client, (Close, SynSent), Some((500, b"opener")));
    kernel.moves(client, (SynSent, Established));
    kernel.now += SECOND;
    held(&mut kernel, &[(client.id, (501, 500, "user", 1))]);
    assert_eq!(owner(&kernel, client), named("user", 501));
    // A scan that is older than the connection at this address shows another socket.
    let row = kernel.only_row();
    assert_eq!((row.stats.gauges.open, row.stats.counters.established), (1, 1));
    acts(&mut kernel, client, (Established, FinWait1), 501);
    kernel.moves(client, (FinWait1, FinWait2));
    kernel.closes(client, FinWait2, ORPHAN, 0);
    kernel.wait(1);
    let closed = kernel.closed.last().expect("it is closed").owner.clone().expect("an owner");
    assert_eq!((closed.label.name.to_string(), closed.pid), named("user", 501));
}

#[test]
fn a_listener_that_a_supervisor_hands_on_is_its_holders() {
    let (listener, child) = (Socket::listener(1, 80), Socket::child(2, 80));
    let mut kernel = TracedKernel::scanned();
    kernel.listens(listener, "supervisor");
    kernel.now += SECOND;
    held(&mut kernel, &[(listener.id, (900, 1, "service", 1))]);
    kernel.connection(child, &[SynRecv, Established]);
    assert_eq!(owner(&kernel, child), named("service", 900));
    let row = kernel.row(Role::Server, 80);
    assert_eq!(row.identity.owner, Common::One("service".into()));
}

/// The listener that created a connection.
fn parent(listener: Socket) -> ParentListener {
    let sock = ListenerId::new(listener.id).expect("an address");
    ParentListener { sock, port: listener.local.port() }
}

/// A listener gets a connection to this port: TPROXY. Up to Linux 6.14, its first record has the
/// listener's endpoints.
fn redirected(kernel: &mut TracedKernel, child: Socket, listener: Socket, states: &[TcpState]) {
    let mut first = child;
    if !kernel.shows_children {
        first.local.set_port(listener.local.port());
        first = first.unbound();
    }
    kernel.moves_with(first, (Listen, SynRecv), |opening| {
        opening.opening = Some(Opening { listener: Some(parent(listener)), ..Opening::default() });
    });
    let mut old = SynRecv;
    for &state in states {
        kernel.moves(child, (old, state));
        old = state;
    }
}

#[test]
fn connections_of_a_transparent_proxy_are_its_listeners() {
    for shows_children in [false, true] {
        let (listener, child) = (Socket::listener(1, 15_001), Socket::child(2, 80));
        let mut kernel = TracedKernel::scanned();
        kernel.shows_children = shows_children;
        kernel.listens(listener, "envoy");
        redirected(&mut kernel, child, listener, &[Established, FinWait1, FinWait2]);
        assert_eq!(owner(&kernel, child), named("envoy", LISTENER));
        let row = kernel.only_row();
        assert_eq!(row.identity.port, Common::One(15_001));
        assert_eq!(row.stats.gauges.open, 1);
        kernel.closes(child, FinWait2, ORPHAN, 0);
        kernel.wait(1);
        let closed = kernel.closed.last().expect("it is closed").clone();
        assert_eq!((closed.local.port(), closed.service_port), (80, 15_001));
        assert_eq!(kernel.only_row().stats.time_wait_now, 1);
        assert_eq!(kernel.tracker.events().gaps, 0);
        // A new connection with the same endpoints replaces the TIME_WAIT.
        redirected(&mut kernel, child, listener, &[Established]);
        assert_eq!(kernel.only_row().stats.time_wait_now, 0);
    }
}

#[test]
fn filters_know_the_port_of_a_transparent_proxys_listener() {
    let ports = |list: &str| list.split(',').map(|port| port.parse().expect("a port")).collect();
    let service = |list| Filter { service_ports: ports(list), ..Filter::default() };
    let local = |list| Filter { local_ports: ports(list), ..Filter::default() };
    for (filter, admitted) in
        [(service("15001"), 1), (service("80"), 0), (local("80"), 1), (local("15001"), 0)]
    {
        for shows_children in [false, true] {
            let (listener, child) = (Socket::listener(1, 15_001), Socket::child(2, 80));
            let mut kernel = TracedKernel::filtered(filter.clone());
            kernel.shows_children = shows_children;
            kernel.scan(HERE, &[]);
            kernel.listens(listener, "envoy");
            redirected(&mut kernel, child, listener, &[Established]);
            assert_eq!(kernel.tracker.open().count(), admitted, "{filter:?} {shows_children}");
        }
    }
}

/// Two processes share a port by SO_REUSEPORT, and the kernel shows whose child each connection is.
#[test]
fn connections_of_a_shared_port_are_those_of_their_listener() {
    let mut kernel = TracedKernel::with_limits(Limits::default());
    let [one, other] = [1, 2].map(|id| Socket::listener(id, 80));
    kernel.opens(one, (Close, Listen), Some((700, b"one")));
    kernel.opens(other, (Close, Listen), Some((800, b"other")));
    for (id, listener, name, pid) in [(3, one, "one", 700), (4, other, "other", 800)] {
        let child = Socket::child(id, 80);
        redirected(&mut kernel, child, listener, &[Established]);
        assert_eq!(owner(&kernel, child), named(name, pid));
    }
}

/// A prefork server with many workers: one of the last accepts a connection.
#[test]
fn every_worker_that_holds_a_listener_can_own_its_connections() {
    let (mut kernel, listener, child) = accepted();
    let workers: Vec<_> =
        (1..=500).map(|n| (listener.id, (LISTENER + n, LISTENER, "worker", 1))).collect();
    held(&mut kernel, &workers);
    acts(&mut kernel, child, (Established, FinWait1), LISTENER + 480);
    assert_eq!(owner(&kernel, child), named("worker", LISTENER + 480));
}

/// The first scan of a namespace can come after a connection of a listener there has closed.
#[test]
fn a_filter_by_process_waits_for_the_first_scan_of_a_namespace() {
    for (pid, admitted) in [(LISTENER, 1), (LISTENER + 1, 0)] {
        let (listener, child) = (Socket::listener(1, 80), Socket::child(2, 80));
        let mut kernel = TracedKernel::filtered(Filter { pids: vec![pid], ..Filter::default() });
        held(&mut kernel, &[(listener.id, (LISTENER, 1, "server", 1))]);
        kernel.connection(child, &[SynRecv, Established, CloseWait, LastAck, Close]);
        assert_eq!(kernel.tracker.held_records(), 5);
        kernel.scan_begins(HERE);
        kernel.scan_finds(listener, Listen);
        kernel.scan_ends(HERE);
        assert_eq!((kernel.closed.len(), kernel.tracker.held_records()), (admitted, 0));
        assert_eq!(kernel.tracker.events().gaps, 0);
    }
}
