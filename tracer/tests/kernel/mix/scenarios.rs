//! The kinds of connections. Each scenario makes some on its own port, and returns the expected
//! statistics.

use std::{
    io::Write,
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    thread,
    time::Duration,
};

use nix::libc;
use socket2::{SockRef, TcpKeepalive};
use synfin_common::state::TcpState;

use crate::lab::{
    Pair, RowCounts, Wire, accept, connect_to, disconnect, eventually_equal, reset, scaled,
    set_option, wait_for_end, wait_for_state,
};

/// The expected statistics of a scenario, and the sockets that it leaves open.
pub(super) struct Outcome {
    pub(super) client: RowCounts,
    pub(super) server: RowCounts,
    open_sockets: Vec<OwnedFd>,
}

impl Outcome {
    fn new(client: RowCounts, server: RowCounts) -> Self {
        Self { client, server, open_sockets: Vec::new() }
    }

    /// An outcome without a server.
    fn failure(client: RowCounts) -> Self {
        Self::new(client, RowCounts::default())
    }

    fn leaving_open<S: Into<OwnedFd>>(mut self, sockets: impl IntoIterator<Item = S>) -> Self {
        self.open_sockets.extend(sockets.into_iter().map(Into::into));
        self
    }
}

/// Makes connections to its own port.
type Scenario = fn(&Wire, u16) -> Outcome;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("closed by the client", closed_by_client),
    ("closed by the server", closed_by_server),
    ("IPv4 to a dual-stack listener", ipv4_mapped),
    ("within one host", on_loopback),
    ("many clients at a time", many),
    ("open", open),
    ("half-closed", half_closed),
    ("half-closed, then closed", half_closed_then_closed),
    ("closed by both", closed_by_both),
    ("refused by RST", refused_by_reset),
    ("refused by ICMP", refused_by_icmp),
    ("host unreachable", host_unreachable),
    ("network unreachable", network_unreachable),
    ("timed out", timed_out),
    ("given up by the application", given_up),
    ("still connecting", connecting),
    ("no port left", no_port_left),
    ("from a port of the client's choice", bound_client),
    ("destroyed while connecting", destroyed_while_connecting),
    ("reset by SO_LINGER 0", linger0),
    ("reset for unread data", unread_data),
    ("SO_LINGER 0 after half-close", linger0_after_half_close),
    ("unread data after half-close", unread_data_after_half_close),
    ("reset while closing", reset_while_closing),
    ("data after close", data_after_close),
    ("unread data after both ends", unread_data_after_both_ends),
    ("disconnected", disconnected),
    ("disconnected after the peer's end", disconnected_after_the_peers_end),
    ("never accepted", never_accepted),
    ("data not acknowledged", not_acknowledged),
    ("keepalive not answered", keepalive_not_answered),
    ("destroyed", destroyed),
    ("SYN retransmitted", syn_retransmitted),
    ("SYN-ACK retransmitted", synack_retransmitted),
];

/// The first scenario's port; the others' follow.
const FIRST_PORT: u16 = 7001;

/// A scenario that was played.
pub(super) struct Played {
    pub(super) name: &'static str,
    pub(super) port: u16,
    pub(super) outcome: Outcome,
}

/// Plays all scenarios at once; they mostly wait.
pub(super) fn play_all(wire: &Wire) -> Vec<Played> {
    thread::scope(|scope| {
        let played: Vec<_> = SCENARIOS
            .iter()
            .zip(FIRST_PORT..)
            .map(|(&(name, scenario), port)| {
                (name, port, scope.spawn(move || scenario(wire, port)))
            })
            .collect();
        let finish = |(name, port, player): (_, _, thread::ScopedJoinHandle<'_, _>)| {
            let outcome = player.join().unwrap_or_else(|_| panic!("{name} failed, see above"));
            Played { name, port, outcome }
        };
        played.into_iter().map(finish).collect()
    })
}

fn listen(wire: &Wire, port: u16) -> TcpListener {
    wire.far.listen((Wire::FAR4, port))
}

/// Normal connections.
fn pairs(wire: &Wire, port: u16, count: usize) -> Vec<Pair> {
    wire.pairs(&listen(wire, port), (Wire::FAR4, port), count).collect()
}

fn closed_by_client(wire: &Wire, port: u16) -> Outcome {
    for mut pair in pairs(wire, port, 5) {
        pair.send(b"question");
        pair.answer(b"answer");
        pair.close_by_client();
    }
    Outcome::new(
        RowCounts::clients(5).closed("closed_by_us", 5).time_waits(5),
        RowCounts::servers(5).closed("closed_by_peer", 5),
    )
}

fn closed_by_server(wire: &Wire, port: u16) -> Outcome {
    let listener = wire.far.listen((Wire::FAR6, port));
    for mut pair in wire.pairs(&listener, (Wire::FAR6, port), 4) {
        pair.send(b"question");
        pair.close_by_server();
    }
    Outcome::new(
        RowCounts::clients(4).closed("closed_by_peer", 4),
        RowCounts::servers(4).closed("closed_by_us", 4).time_waits(4),
    )
}

fn ipv4_mapped(wire: &Wire, port: u16) -> Outcome {
    let listener = wire.far.listen((Ipv6Addr::UNSPECIFIED, port));
    wire.pairs(&listener, (Wire::FAR4, port), 3).for_each(Pair::close_by_client);
    wire.pairs(&listener, (Wire::FAR6, port), 2).for_each(Pair::close_by_server);
    Outcome::new(
        RowCounts::clients(5).closed("closed_by_us", 3).time_waits(3).closed("closed_by_peer", 2),
        RowCounts::servers(5).closed("closed_by_peer", 3).closed("closed_by_us", 2).time_waits(2),
    )
}

fn on_loopback(wire: &Wire, port: u16) -> Outcome {
    let listener = wire.near.listen((Ipv4Addr::LOCALHOST, port));
    for _ in 0..6 {
        wire.near.pair_with(&listener, (Ipv4Addr::LOCALHOST, port)).close_by_client();
    }
    Outcome::new(
        RowCounts::clients(6).closed("closed_by_us", 6).time_waits(6),
        RowCounts::servers(6).closed("closed_by_peer", 6),
    )
}

fn many(wire: &Wire, port: u16) -> Outcome {
    const CLIENTS: usize = 4;
    let each = scaled(50, 5);
    let all = (CLIENTS * each) as u64;
    let listener = listen(wire, port);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for _ in 0..each {
                    drop(wire.near.connect((Wire::FAR4, port)).expect("a connection"));
                }
            });
        }
        for _ in 0..all {
            wait_for_end(accept(&listener));
        }
    });
    Outcome::new(
        RowCounts::clients(all).closed("closed_by_us", all).time_waits(all),
        RowCounts::servers(all).closed("closed_by_peer", all),
    )
}

fn open(wire: &Wire, port: u16) -> Outcome {
    let pairs = pairs(wire, port, 3);
    Outcome::new(
        RowCounts::clients(3).open("established", 3),
        RowCounts::servers(3).open("established", 3),
    )
    .leaving_open(pairs.into_iter().flat_map(|Pair { client, server }| [client, server]))
}

fn half_closed(wire: &Wire, port: u16) -> Outcome {
    let pairs = pairs(wire, port, 2);
    pairs.iter().for_each(half_close);
    Outcome::new(
        RowCounts::clients(2).open("fin_wait2", 2),
        RowCounts::servers(2).open("close_wait", 2),
    )
    .leaving_open(pairs.into_iter().flat_map(|Pair { client, server }| [client, server]))
}

/// The client shuts down its side, and both kernels know it.
fn half_close(pair: &Pair) {
    pair.client.shutdown(Shutdown::Write).expect("shutdown");
    wait_for_state(&pair.client, TcpState::FinWait2);
    wait_for_state(&pair.server, TcpState::CloseWait);
}

fn half_closed_then_closed(wire: &Wire, port: u16) -> Outcome {
    for mut pair in pairs(wire, port, 2) {
        half_close(&pair);
        pair.answer(b"last data");
        pair.close_by_server();
    }
    Outcome::new(
        RowCounts::clients(2).closed("closed_by_us", 2).time_waits(2),
        RowCounts::servers(2).closed("closed_by_peer", 2),
    )
}

/// The client's FIN is lost, and the server's arrives before the retransmission.
fn closed_by_both(wire: &Wire, port: u16) -> Outcome {
    let pairs = pairs(wire, port, 2);
    let filter = format!("fins_to_{port}");
    wire.far.filter(&filter, &format!("tcp dport {port} tcp flags & fin == fin counter drop"));
    for pair in &pairs {
        pair.client.shutdown(Shutdown::Write).expect("shutdown");
    }
    wire.far.wait_for_filtered(&filter, 2);
    for pair in &pairs {
        pair.server.shutdown(Shutdown::Write).expect("shutdown");
    }
    for pair in &pairs {
        wait_for_state(&pair.client, TcpState::Closing);
    }
    wire.far.unfilter(&filter);
    for Pair { client, server } in pairs {
        wait_for_end(server);
        drop(client);
    }
    Outcome::new(
        RowCounts::clients(2).closed("closed_by_both", 2).time_waits(2),
        RowCounts::servers(2).closed("closed_by_us", 2).time_waits(2),
    )
}

/// The client's errors of this number of simultaneous attempts.
fn errors(wire: &Wire, to: impl Into<SocketAddr>, count: usize) -> Vec<Option<i32>> {
    let to = to.into();
    let error = || wire.near.connect(to).expect_err("no connection").raw_os_error();
    thread::scope(|scope| {
        let attempts: Vec<_> = (0..count).map(|_| scope.spawn(error)).collect();
        attempts.into_iter().map(|attempt| attempt.join().expect("an error")).collect()
    })
}

fn refused_by_reset(wire: &Wire, port: u16) -> Outcome {
    assert_eq!(errors(wire, (Wire::FAR4, port), 2), [Some(libc::ECONNREFUSED); 2]);
    assert_eq!(errors(wire, (Wire::FAR6, port), 1), [Some(libc::ECONNREFUSED)]);
    Outcome::failure(RowCounts::default().failed("connect_refused_rst", 3))
}

fn refused_by_icmp(wire: &Wire, port: u16) -> Outcome {
    reject(wire, port, "port-unreachable");
    assert_eq!(errors(wire, (Wire::FAR4, port), 2), [Some(libc::ECONNREFUSED); 2]);
    assert_eq!(errors(wire, (Wire::FAR6, port), 1), [Some(libc::ECONNREFUSED)]);
    Outcome::failure(RowCounts::default().failed("connect_refused_icmp", 3))
}

fn host_unreachable(wire: &Wire, port: u16) -> Outcome {
    reject(wire, port, "host-unreachable");
    assert_eq!(errors(wire, (Wire::FAR4, port), 2), [Some(libc::EHOSTUNREACH); 2]);
    Outcome::failure(RowCounts::default().failed("connect_unreachable_host", 2))
}

fn network_unreachable(wire: &Wire, port: u16) -> Outcome {
    reject(wire, port, "no-route");
    assert_eq!(errors(wire, (Wire::FAR4, port), 2), [Some(libc::ENETUNREACH); 2]);
    Outcome::failure(RowCounts::default().failed("connect_unreachable_net", 2))
}

fn reject(wire: &Wire, port: u16, with: &str) {
    let rule = format!("tcp dport {port} reject with icmpx type {with}");
    wire.far.filter(&format!("reject_{port}"), &rule);
}

fn timed_out(wire: &Wire, port: u16) -> Outcome {
    drop_packets(wire, port);
    assert_eq!(errors(wire, (Wire::FAR4, port), 2), [Some(libc::ETIMEDOUT); 2]);
    Outcome::failure(RowCounts::default().failed("connect_timeout", 2))
}

/// Packets to the port are dropped.
fn drop_packets(wire: &Wire, port: u16) {
    wire.far.filter(&format!("swallow_{port}"), &format!("tcp dport {port} counter drop"));
}

fn given_up(wire: &Wire, port: u16) -> Outcome {
    drop_packets(wire, port);
    for _ in 0..3 {
        drop(wire.near.begin_connect((Wire::FAR4, port)));
    }
    Outcome::failure(RowCounts::default().failed("connect_cancelled", 3))
}

fn connecting(wire: &Wire, port: u16) -> Outcome {
    drop_packets(wire, port);
    let attempts: Vec<_> = (0..2)
        .map(|_| wire.near.begin_connect((Wire::FAR4, port)))
        .inspect(|attempt| set_option(attempt, libc::TCP_SYNCNT, 10))
        .collect();
    Outcome::failure(RowCounts::default().pending(2)).leaving_open(attempts)
}

/// The only ephemeral port of the second client is in use.
fn no_port_left(wire: &Wire, port: u16) -> Outcome {
    let listener = listen(wire, port);
    let bound_alike = || {
        let socket = wire.near.socket(Wire::NEAR4);
        socket.set_reuse_address(true).expect("SO_REUSEADDR");
        let address = SocketAddr::from((Wire::NEAR4, port));
        socket.bind(&address.into()).expect("the same port");
        socket
    };
    let (first, second) = (bound_alike(), bound_alike());
    let first = connect_to(first, (Wire::FAR4, port).into()).expect("a connection");
    let error = connect_to(second, (Wire::FAR4, port).into()).expect_err("no connection");
    assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL));
    let server = accept(&listener);
    Pair { client: first, server }.close_by_server();
    Outcome::new(
        RowCounts::clients(1).closed("closed_by_peer", 1).failed("connect_local_failure", 1),
        RowCounts::servers(1).closed("closed_by_us", 1).time_waits(1),
    )
}

/// A bound port does not make a server.
fn bound_client(wire: &Wire, port: u16) -> Outcome {
    let listener = listen(wire, port);
    for _ in 0..2 {
        let socket = wire.near.socket(Wire::NEAR4);
        socket.bind(&SocketAddr::from((Wire::NEAR4, 0)).into()).expect("a port");
        let client = connect_to(socket, (Wire::FAR4, port).into()).expect("a connection");
        Pair { client, server: accept(&listener) }.close_by_client();
    }
    Outcome::new(
        RowCounts::clients(2).closed("closed_by_us", 2).time_waits(2),
        RowCounts::servers(2).closed("closed_by_peer", 2),
    )
}

fn destroyed_while_connecting(wire: &Wire, port: u16) -> Outcome {
    drop_packets(wire, port);
    let attempts = [(); 2].map(|()| wire.near.begin_connect((Wire::FAR4, port)));
    wire.near.run(&format!("ss -K -tn state syn-sent dport = :{port}"));
    Outcome::failure(RowCounts::default().failed("connect_destroyed", 2)).leaving_open(attempts)
}

fn linger0(wire: &Wire, port: u16) -> Outcome {
    for Pair { client, server } in pairs(wire, port, 3) {
        reset(client);
        wait_for_end(server);
    }
    Outcome::new(
        RowCounts::clients(3).closed("reset_by_us_linger0", 3),
        RowCounts::servers(3).closed("reset_by_peer", 3),
    )
}

fn unread_data(wire: &Wire, port: u16) -> Outcome {
    for mut pair in pairs(wire, port, 2) {
        pair.answer_unread(b"unread data");
        pair.close_by_client();
    }
    Outcome::new(
        RowCounts::clients(2).closed("reset_by_us_unread_data", 2),
        RowCounts::servers(2).closed("reset_by_peer", 2),
    )
}

fn linger0_after_half_close(wire: &Wire, port: u16) -> Outcome {
    for pair in pairs(wire, port, 2) {
        half_close(&pair);
        reset(pair.client);
        wait_for_state(&pair.server, TcpState::Close);
    }
    Outcome::new(
        RowCounts::clients(2).closed("reset_by_us_linger0", 2),
        RowCounts::servers(2).closed("reset_by_peer", 2),
    )
}

fn unread_data_after_half_close(wire: &Wire, port: u16) -> Outcome {
    for mut pair in pairs(wire, port, 2) {
        half_close(&pair);
        pair.answer_unread(b"unread data");
        drop(pair.client);
        wait_for_state(&pair.server, TcpState::Close);
    }
    Outcome::new(
        RowCounts::clients(2).closed("reset_by_us_unread_data", 2),
        RowCounts::servers(2).closed("reset_by_peer", 2),
    )
}

fn reset_while_closing(wire: &Wire, port: u16) -> Outcome {
    for pair in pairs(wire, port, 2) {
        half_close(&pair);
        reset(pair.server);
        wait_for_end(pair.client);
    }
    Outcome::new(
        RowCounts::clients(2).closed("reset_by_peer_closing", 2),
        RowCounts::servers(2).closed("reset_by_us_linger0", 2),
    )
}

/// When the data arrives, the client is only a timewait socket, which answers with a RST.
fn data_after_close(wire: &Wire, port: u16) -> Outcome {
    for Pair { client, mut server } in pairs(wire, port, 2) {
        drop(client);
        eventually_equal("clients in FIN_WAIT2", 1, || {
            let sockets = wire.near.sockets();
            sockets.iter().filter(|s| s.remote_port == port && s.state == "FIN-WAIT-2").count()
        });
        server.write_all(b"late data").expect("the data is sent");
        wait_for_state(&server, TcpState::Close);
    }
    Outcome::new(
        RowCounts::clients(2).closed("closed_by_us", 2).and("time_wait.entered", 2),
        RowCounts::servers(2).closed("reset_by_peer", 2),
    )
}

fn disconnected(wire: &Wire, port: u16) -> Outcome {
    let pairs = pairs(wire, port, 2);
    let clients: Vec<_> = pairs
        .into_iter()
        .map(|Pair { client, server }| {
            disconnect(&client);
            wait_for_end(server);
            client
        })
        .collect();
    Outcome::new(
        RowCounts::clients(2).closed("reset_by_us_disconnect", 2),
        RowCounts::servers(2).closed("reset_by_peer", 2),
    )
    .leaving_open(clients)
}

fn disconnected_after_the_peers_end(wire: &Wire, port: u16) -> Outcome {
    let pairs = pairs(wire, port, 2);
    for pair in &pairs {
        half_close(pair);
        disconnect(&pair.server);
        wait_for_state(&pair.client, TcpState::Close);
    }
    Outcome::new(
        RowCounts::clients(2).closed("reset_by_peer_closing", 2),
        RowCounts::servers(2).closed("reset_by_us_disconnect", 2),
    )
    .leaving_open(pairs.into_iter().map(|pair| pair.server))
}

/// The server closes as well, but aborts before its FIN arrives.
fn unread_data_after_both_ends(wire: &Wire, port: u16) -> Outcome {
    let pairs = pairs(wire, port, 2);
    let filter = format!("silence_{port}");
    wire.near.filter(&filter, &format!("tcp sport {port} counter drop"));
    let clients: Vec<_> = pairs
        .into_iter()
        .map(|Pair { mut client, server }| {
            client.write_all(b"unread data").expect("the data is sent");
            client.shutdown(Shutdown::Write).expect("shutdown");
            wait_for_state(&server, TcpState::CloseWait);
            server.shutdown(Shutdown::Write).expect("shutdown");
            wait_for_state(&server, TcpState::LastAck);
            client
        })
        .collect();
    wire.near.unfilter(&filter);
    for client in &clients {
        wait_for_state(client, TcpState::Close);
    }
    Outcome::new(
        RowCounts::clients(2).closed("reset_by_peer_closing", 2),
        RowCounts::servers(2).closed("reset_by_us_unread_data", 2),
    )
}

fn never_accepted(wire: &Wire, port: u16) -> Outcome {
    let listener = listen(wire, port);
    let clients = [(); 3].map(|()| wire.near.connect((Wire::FAR4, port)).expect("a connection"));
    eventually_equal("connections that wait for accept()", 3, || {
        let sockets = wire.far.sockets();
        let listener = sockets.iter().find(|s| s.local_port == port && s.state == "LISTEN");
        listener.map_or(0, |listener| listener.queue.0)
    });
    drop(listener);
    clients.into_iter().for_each(wait_for_end);
    Outcome::new(
        RowCounts::clients(3).closed("reset_by_peer", 3),
        RowCounts::servers(3).closed("reset_by_us_listener_closed", 3),
    )
}

fn not_acknowledged(wire: &Wire, port: u16) -> Outcome {
    let pairs = pairs(wire, port, 2);
    drop_packets(wire, port);
    for Pair { client, .. } in &pairs {
        let client = SockRef::from(client);
        client.set_tcp_user_timeout(Some(Duration::from_millis(500))).expect("TCP_USER_TIMEOUT");
        client.send(b"unanswered data").expect("the data is sent");
    }
    dead_clients(pairs, "timeout_user")
}

fn keepalive_not_answered(wire: &Wire, port: u16) -> Outcome {
    let pairs = pairs(wire, port, 2);
    drop_packets(wire, port);
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new().with_time(second).with_interval(second).with_retries(1);
    for Pair { client, .. } in &pairs {
        SockRef::from(client).set_tcp_keepalive(&keepalive).expect("SO_KEEPALIVE");
    }
    dead_clients(pairs, "timeout_keepalive")
}

/// Waits until the clients have timed out, which their peers do not notice.
fn dead_clients(pairs: Vec<Pair>, reason: &str) -> Outcome {
    let count = pairs.len() as u64;
    let mut servers = Vec::new();
    for Pair { client, server } in pairs {
        let mut nothing = [0];
        let error = client.peek(&mut nothing).expect_err("no answer");
        assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
        servers.push(server);
    }
    Outcome::new(
        RowCounts::clients(count).closed(reason, count),
        RowCounts::servers(count).open("established", count),
    )
    .leaving_open(servers)
}

fn destroyed(wire: &Wire, port: u16) -> Outcome {
    let pairs = pairs(wire, port, 2);
    wire.near.run(&format!("ss -K -tn state established dport = :{port}"));
    for Pair { client, server } in pairs {
        wait_for_end(server);
        drop(client);
    }
    Outcome::new(
        RowCounts::clients(2).closed("destroyed_by_admin", 2),
        RowCounts::servers(2).closed("reset_by_peer", 2),
    )
}

fn syn_retransmitted(wire: &Wire, port: u16) -> Outcome {
    let listener = listen(wire, port);
    let filter = format!("syns_to_{port}");
    wire.far.filter(&filter, &format!("tcp dport {port} counter drop"));
    let clients = [(); 2].map(|()| wire.near.begin_connect((Wire::FAR4, port)));
    // They complete in any order.
    clients.iter().for_each(|client| set_option(client, libc::TCP_SYNCNT, 6));
    wire.far.wait_for_filtered(&filter, 2);
    wire.far.unfilter(&filter);
    close_by_clients(&listener, clients);
    Outcome::new(
        RowCounts::clients(2).retransmitted().closed("closed_by_us", 2).time_waits(2),
        RowCounts::servers(2).closed("closed_by_peer", 2),
    )
}

/// The handshake's last ACK is lost, so that only the server retransmits.
fn synack_retransmitted(wire: &Wire, port: u16) -> Outcome {
    let listener = listen(wire, port);
    let filter = format!("acks_to_{port}");
    let rule = format!("tcp dport {port} tcp flags & (syn | ack) == ack counter drop");
    wire.far.filter(&filter, &rule);
    let clients = [(); 2].map(|()| wire.near.connect((Wire::FAR4, port)).expect("a connection"));
    wire.far.wait_for_filtered(&filter, 2);
    wire.far.unfilter(&filter);
    close_by_clients(&listener, clients);
    Outcome::new(
        RowCounts::clients(2).closed("closed_by_us", 2).time_waits(2),
        RowCounts::servers(2).retransmitted().closed("closed_by_peer", 2),
    )
}

/// Closes clients in any order, because handshakes with losses do not complete in order.
fn close_by_clients(listener: &TcpListener, clients: [TcpStream; 2]) {
    let servers = [(); 2].map(|()| accept(listener));
    drop(clients);
    servers.into_iter().for_each(wait_for_end);
}
