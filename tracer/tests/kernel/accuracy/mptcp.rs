//! MPTCP: its subflows are TCP connections, which the MPTCP socket opens and closes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::stage::{SERVER, Stage};
use crate::lab::{
    Actor, Pair, accept, connect_to, disconnect, eventually, eventually_equal, reset, wait_for_end,
};

fn socket(stage: &Stage, protocol: Protocol) -> Socket {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, Some(protocol));
    stage.namespace.within(socket).expect("a socket")
}

/// The host listens on its own address, for MPTCP or not.
fn listen(stage: &Stage, protocol: Protocol) -> TcpListener {
    let address = SocketAddr::from((stage.without_peer(), SERVER));
    let listener = socket(stage, protocol);
    listener.set_reuse_address(true).expect("SO_REUSEADDR");
    listener.bind(&address.into()).expect("the address");
    listener.listen(8).expect("it listens");
    listener.into()
}

fn connect(stage: &Stage, protocol: Protocol) -> TcpStream {
    connect_to(socket(stage, protocol), (stage.host(), SERVER).into()).expect("a connection")
}

/// A connection that has carried data both ways, so that both ends know whether it is MPTCP.
fn pair(stage: &Stage, [client, server]: [Protocol; 2]) -> Pair {
    let listener = listen(stage, server);
    let mut pair = Pair { client: connect(stage, client), server: accept(&listener) };
    stage.keep(listener);
    pair.send(b"question");
    pair.answer(b"answer");
    pair
}

const BOTH: [Protocol; 2] = [Protocol::MPTCP; 2];

pub(super) fn mptcp_closed_by_server(stage: &Stage) {
    pair(stage, BOTH).close_by_server();
    stage.wait_for("TIME-WAIT", 1);
}

pub(super) fn mptcp_older(stage: &Stage) {
    let pair = pair(stage, BOTH);
    stage.trace();
    stage.wait_for_scan();
    pair.close_by_client();
    stage.wait_for("TIME-WAIT", 1);
}

pub(super) fn mptcp_unread_data(stage: &Stage) {
    let Pair { client, server } = pair(stage, BOTH);
    let mut swapped = Pair { client: server, server: client };
    swapped.answer_unread(b"never read");
    drop(swapped.client);
    wait_for_end(swapped.server);
}

pub(super) fn mptcp_linger0(stage: &Stage) {
    let Pair { client, server } = pair(stage, BOTH);
    reset(client);
    wait_for_end(server);
}

pub(super) fn mptcp_disconnected(stage: &Stage) {
    let Pair { client, server } = pair(stage, BOTH);
    disconnect(&client);
    wait_for_end(server);
    stage.keep(client);
}

pub(super) fn mptcp_listener_closed(stage: &Stage) {
    let listener = listen(stage, Protocol::MPTCP);
    let client = connect(stage, Protocol::MPTCP);
    eventually("the client is in the queue", || {
        stage
            .namespace
            .sockets()
            .iter()
            .any(|it| it.state == "LISTEN" && it.queue.0 > 0)
            .then_some(())
    });
    drop(listener);
    wait_for_end(client);
}

pub(super) fn mptcp_client_without(stage: &Stage) {
    pair(stage, [Protocol::TCP, Protocol::MPTCP]).close_by_client();
    stage.wait_for("TIME-WAIT", 1);
}

pub(super) fn mptcp_server_without(stage: &Stage) {
    pair(stage, [Protocol::MPTCP, Protocol::TCP]).close_by_server();
    stage.wait_for("TIME-WAIT", 1);
}

pub(super) fn mptcp_process_killed(stage: &Stage) {
    let listener = listen(stage, Protocol::MPTCP);
    let mut actor = Actor::start(&stage.namespace, None, "victim");
    actor.connect_by_mptcp((stage.host(), SERVER), 1);
    let server = accept(&listener);
    let victim = i32::try_from(actor.pid()).expect("a process id");
    kill(Pid::from_raw(victim), Signal::SIGKILL).expect("SIGKILL");
    wait_for_end(server);
    stage.wait_for("TIME-WAIT", 1);
}

/// A connection to a server in the twin, whose client opens a second subflow from another address.
/// Both ends in one namespace would have the same endpoints, so that either opens subflows.
struct Joined {
    server: SocketAddr,
    second: Ipv4Addr,
}

impl Joined {
    fn new(stage: &Stage) -> Self {
        let [a, b, c, _] = stage.host().octets();
        let second = Ipv4Addr::new(a, b, c, 3);
        stage.link_twin();
        for namespace in stage.namespaces() {
            namespace.run("ip mptcp limits set subflows 1 add_addr_accepted 0");
        }
        stage.namespace.run(&format!("ip address add {second}/24 dev wire"));
        stage.namespace.run(&format!("ip mptcp endpoint add {second} dev wire id 7 subflow"));
        Self { server: (stage.twin_host(), SERVER).into(), second }
    }

    fn pair(&self, stage: &Stage) -> Pair {
        let listener = stage.twin.within(|| {
            let listener = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP));
            let listener = listener.expect("a socket");
            listener.bind(&self.server.into()).expect("the address");
            listener.listen(8).expect("it listens");
            TcpListener::from(listener)
        });
        let client = connect_to(socket(stage, Protocol::MPTCP), self.server);
        let mut pair = Pair { client: client.expect("a connection"), server: accept(&listener) };
        pair.send(b"question");
        pair.answer(b"answer");
        stage.keep(listener);
        pair
    }

    /// Waits until both ends have this number of subflows.
    fn wait_for_subflows(stage: &Stage, count: usize) {
        eventually_equal("the subflows of both ends", [count; 2], || {
            stage.namespaces().map(|namespace| {
                namespace.sockets().iter().filter(|socket| socket.state == "ESTAB").count()
            })
        });
    }
}

pub(super) fn mptcp_join(stage: &Stage) {
    let pair = Joined::new(stage).pair(stage);
    Joined::wait_for_subflows(stage, 2);
    pair.close_by_client();
    stage.wait_for("TIME-WAIT", 2);
}

pub(super) fn mptcp_subflow_removed(stage: &Stage) {
    let pair = Joined::new(stage).pair(stage);
    Joined::wait_for_subflows(stage, 2);
    stage.namespace.run("ip mptcp endpoint delete id 7");
    stage.wait_for("TIME-WAIT", 1);
    Joined::wait_for_subflows(stage, 1);
    stage.keep((pair.client, pair.server));
}

pub(super) fn mptcp_join_refused(stage: &Stage) {
    let joined = Joined::new(stage);
    let second = joined.second;
    let rule = format!("ip saddr {second} tcp dport {SERVER} counter reject with tcp reset");
    stage.twin.filter("join", &rule);
    let pair = joined.pair(stage);
    stage.twin.wait_for_filtered("join", 1);
    eventually_equal("the attempts that failed", 1, || {
        stage.namespace.counters().get("AttemptFails")
    });
    stage.keep((pair.client, pair.server));
}
