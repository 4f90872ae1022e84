//! Every way in which a connection can open or fail to open.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use etherparse::icmpv4::DestUnreachableHeader;
use nix::libc;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::stage::{CLIENT, SERVER, Stage};
use crate::lab::{self, Conn, Pair, accept, connect_to, pause, set_option};

pub(super) fn active_open(stage: &Stage) {
    let client = stage.begin_connect();
    let mut conn = stage.peer().expect_syn();
    pause(200);
    conn.syn_ack();
    conn.expect_ack();
    stage.keep(client);
}

pub(super) fn passive_open(stage: &Stage) {
    let listener = stage.listen();
    let mut conn = half_open(stage);
    pause(200);
    conn.ack();
    stage.keep((accept(&listener), listener));
}

pub(super) fn mptcp(stage: &Stage) {
    let address = SocketAddr::from((stage.without_peer(), SERVER));
    let mptcp = || {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP));
        stage.namespace.within(socket).expect("an MPTCP socket")
    };
    let listener = mptcp();
    listener.set_reuse_address(true).expect("SO_REUSEADDR");
    listener.bind(&address.into()).expect("the address");
    listener.listen(1).expect("it listens");
    let client = connect_to(mptcp(), address).expect("a connection");
    let server = accept(&listener.into());
    Pair { client, server }.close_by_client();
    stage.wait_for("TIME-WAIT", 1);
}

pub(super) fn ipv6(stage: &Stage) {
    let address = (stage.without_peer_by_ipv6(), SERVER);
    let listener = stage.namespace.listen(address);
    stage.namespace.pair_with(&listener, address).close_by_client();
}

pub(super) fn last_ack_with_fin(stage: &Stage) {
    let listener = stage.listen();
    let mut conn = stage.peer().client(SERVER);
    conn.syn();
    conn.expect_syn_ack();
    conn.fin();
    drop(accept(&listener));
    conn.expect_fin();
    conn.ack();
    stage.keep(listener);
}

/// The host's SYN is answered with a SYN, then its SYN-ACK with a SYN-ACK.
fn simultaneously(stage: &Stage) -> (TcpStream, Conn<'_>) {
    let client = stage.begin_connect();
    let mut conn = stage.peer().expect_syn();
    conn.syn();
    conn.expect_syn_ack();
    (client, conn)
}

pub(super) fn simultaneous_open(stage: &Stage) {
    let (client, mut conn) = simultaneously(stage);
    conn.ack();
    stage.keep(client);
}

pub(super) fn simultaneous_open_reset(stage: &Stage) {
    let (client, mut conn) = simultaneously(stage);
    conn.rst();
    stage.keep(client);
}

pub(super) fn self_connect(stage: &Stage) {
    let address = SocketAddr::from((stage.without_peer(), CLIENT));
    let socket = stage.namespace.bound_socket(address);
    drop(connect_to(socket, address).expect("a connection"));
    stage.wait_for("TIME-WAIT", 1);
}

/// Fast Open without cookies, for clients and servers (`net.ipv4.tcp_fastopen`).
const FAST_OPEN: u32 = 0x1 | 0x2 | 0x4 | 0x200;

pub(super) fn fast_open_client(stage: &Stage) {
    stage.set("tcp_fastopen", FAST_OPEN);
    let client = stage.socket();
    let to = SockAddr::from(SocketAddr::from((stage.peer().address(), CLIENT)));
    SockRef::from(&client)
        .send_to_with_flags(b"question", &to, libc::MSG_FASTOPEN)
        .expect("the SYN takes the data");
    let mut conn = stage.peer().expect_syn();
    conn.syn_ack();
    conn.expect_ack();
    stage.keep(client);
}

/// Calls connect(), and later sends a SYN with data.
fn connect_deferred(stage: &Stage) -> TcpStream {
    stage.set("tcp_fastopen", FAST_OPEN);
    let to = SocketAddr::from((stage.peer().address(), CLIENT));
    let mut client = stage.socket();
    set_option(&client, libc::TCP_FASTOPEN_CONNECT, 1);
    SockRef::from(&client).connect(&to.into()).expect("connect() succeeds at once");
    pause(200);
    client.write_all(b"question").expect("the SYN takes the data");
    client
}

pub(super) fn fast_open_deferred(stage: &Stage) {
    let client = connect_deferred(stage);
    let mut conn = stage.peer().expect_syn();
    conn.syn_ack();
    conn.expect_ack();
    stage.keep(client);
}

pub(super) fn fast_open_deferred_retransmitted(stage: &Stage) {
    let client = connect_deferred(stage);
    stage.peer().expect_syn();
    let mut conn = stage.peer().expect_syn();
    conn.syn_ack();
    conn.expect_data(b"question");
    conn.ack();
    stage.keep(client);
}

/// A connection from the peer whose first data came with the SYN; the last ACK is outstanding.
fn fast_open(stage: &Stage) -> (TcpListener, Conn<'_>) {
    stage.set("tcp_fastopen", FAST_OPEN);
    let listener = stage.listen();
    set_option(&listener, libc::TCP_FASTOPEN, 5);
    let mut conn = stage.peer().client(SERVER);
    conn.syn_with(b"question");
    conn.expect_syn_ack();
    (listener, conn)
}

/// Accepts the connection and reads the question.
fn accept_early(listener: &TcpListener) -> TcpStream {
    let mut server = accept(listener);
    let mut question = [0; 8];
    server.read_exact(&mut question).expect("the question");
    assert_eq!(&question, b"question");
    server
}

pub(super) fn fast_open_child(stage: &Stage) {
    let (listener, mut conn) = fast_open(stage);
    let server = accept_early(&listener);
    pause(200);
    conn.ack();
    stage.keep((listener, server));
}

pub(super) fn fast_open_child_closed(stage: &Stage) {
    let (listener, mut conn) = fast_open(stage);
    drop(accept_early(&listener));
    conn.expect_fin();
    conn.fin();
    stage.keep(listener);
}

pub(super) fn fast_open_child_reset(stage: &Stage) {
    let (listener, mut conn) = fast_open(stage);
    let server = accept_early(&listener);
    conn.rst();
    stage.keep((listener, server));
}

pub(super) fn fast_open_child_orphaned(stage: &Stage) {
    let (listener, mut conn) = fast_open(stage);
    drop(listener);
    conn.expect_rst();
}

pub(super) fn syn_cookie(stage: &Stage) {
    stage.set("tcp_syncookies", 2);
    let (server, _) = stage.server();
    stage.keep(server);
}

pub(super) fn syn_cookie_timestamps(stage: &Stage) {
    stage.set("tcp_syncookies", 2);
    let listener = stage.listen();
    let mut conn = stage.peer().client(SERVER).with_timestamps();
    conn.syn();
    conn.expect_syn_ack();
    pause(20);
    conn.ack();
    stage.keep((accept(&listener), listener));
}

pub(super) fn repair_open(stage: &Stage) {
    let to = SocketAddr::from((stage.peer().address(), CLIENT));
    let socket = TcpStream::from(stage.namespace.bound_socket((stage.host(), 40_000)));
    set_option(&socket, libc::TCP_REPAIR, 1);
    SockRef::from(&socket).connect(&to.into()).expect("it needs no packet");
    stage.keep(socket);
}

pub(super) fn repair_server(stage: &Stage) {
    let to = SocketAddr::from((stage.peer().address(), 40_000));
    stage.keep(stage.listen());
    let socket = TcpStream::from(stage.namespace.socket(stage.host().into()));
    // Only in repair a socket can have a listener's port.
    set_option(&socket, libc::TCP_REPAIR, 1);
    let restored = SockRef::from(&socket);
    restored.bind(&SocketAddr::from((stage.host(), SERVER)).into()).expect("the port");
    restored.connect(&to.into()).expect("it needs no packet");
    stage.keep(socket);
}

pub(super) fn no_route(stage: &Stage) {
    let nowhere = Ipv4Addr::new(192, 0, 2, 1);
    let error = stage.namespace.connect((nowhere, CLIENT)).expect_err("no route");
    assert_eq!(error.raw_os_error(), Some(libc::ENETUNREACH));
}

pub(super) fn no_port_left(stage: &Stage) {
    stage.set("ip_local_port_range", "40000 40000");
    let (client, _) = stage.client();
    let to = (stage.peer().address(), CLIENT);
    let error = stage.namespace.connect(to).expect_err("no port");
    assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL));
    stage.keep(client);
}

pub(super) fn listen_fails(stage: &Stage) {
    let address = SocketAddr::from((stage.without_peer(), SERVER));
    let [first, second] = [(); 2].map(|()| {
        let socket = stage.namespace.socket(address.ip());
        socket.set_reuse_address(true).expect("SO_REUSEADDR");
        socket.bind(&address.into()).expect("the same port");
        socket
    });
    first.listen(1).expect("the first one may listen");
    let error = second.listen(1).expect_err("the second one may not");
    assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    stage.keep((first, second));
}

/// A SYN from the peer that the host has answered.
fn half_open(stage: &Stage) -> Conn<'_> {
    let mut conn = stage.peer().client(SERVER);
    conn.syn();
    conn.expect_syn_ack();
    conn
}

pub(super) fn half_open_expires(stage: &Stage) {
    stage.set("tcp_synack_retries", 1);
    stage.keep(stage.listen());
    half_open(stage);
    stage.wait_for("SYN-RECV", 0);
}

pub(super) fn half_open_reset(stage: &Stage) {
    stage.keep(stage.listen());
    half_open(stage).rst();
}

pub(super) fn half_open_unreachable(stage: &Stage) {
    stage.keep(stage.listen());
    half_open(stage).icmp(DestUnreachableHeader::Host);
}

pub(super) fn syn_queue_full(stage: &Stage) {
    stage.set("tcp_syncookies", 0);
    // The queue has room for one more than its limit.
    stage.keep(stage.listen_up_to(1));
    let _pending = [half_open(stage), half_open(stage)];
    let mut late = stage.peer().client(SERVER);
    late.syn();
    late.expect_silence(Duration::from_millis(100));
}

pub(super) fn accept_queue(stage: &Stage) {
    stage.keep(stage.listen_up_to(20));
    for _ in 0..5 {
        stage.peer().connect(SERVER);
    }
}

pub(super) fn accept_queue_full_at_syn(stage: &Stage) {
    // The queue has room for one more than its limit.
    stage.keep(stage.listen_up_to(0));
    stage.peer().connect(SERVER);
    let mut late = stage.peer().client(SERVER);
    late.syn();
    late.expect_silence(Duration::from_millis(100));
}

/// Two handshakes that only need the last ACK, and room for one of them.
fn two_for_one(stage: &Stage) -> Conn<'_> {
    stage.keep(stage.listen_up_to(1));
    stage.peer().connect(SERVER);
    let [mut first, mut second] = [half_open(stage), half_open(stage)];
    first.ack();
    second.ack();
    second
}

pub(super) fn accept_queue_full_at_ack(stage: &Stage) {
    two_for_one(stage).expect_silence(Duration::from_millis(100));
}

pub(super) fn abort_on_overflow(stage: &Stage) {
    stage.set("tcp_abort_on_overflow", 1);
    two_for_one(stage).expect_rst();
}

fn synack_twice(stage: &Stage, mut conn: Conn<'_>) {
    let listener = stage.listen();
    conn.syn();
    conn.expect_syn_ack();
    expect_second_syn_ack(&mut conn);
    conn.ack();
    stage.keep((accept(&listener), listener));
}

/// Waits until the kernel has sent a SYN-ACK again, and then until it has counted that: an ACK that
/// another CPU handles in between finds no retransmission
/// (`net/ipv4/inet_connection_sock.c:inet_rtx_syn_ack`).
fn expect_second_syn_ack(conn: &mut Conn<'_>) {
    conn.expect_retransmission();
    pause(50);
}

pub(super) fn synack_retransmitted(stage: &Stage) {
    synack_twice(stage, stage.peer().client(SERVER));
}

pub(super) fn synack_retransmitted_timestamps(stage: &Stage) {
    synack_twice(stage, stage.peer().client(SERVER).with_timestamps());
}

pub(super) fn syn_received_twice(stage: &Stage) {
    let listener = stage.listen();
    let mut conn = half_open(stage);
    pause(200);
    conn.retransmit_syn();
    expect_second_syn_ack(&mut conn);
    conn.ack();
    stage.keep((accept(&listener), listener));
}

fn syn_twice(stage: &Stage, timestamps: bool) {
    let client = stage.begin_connect();
    let mut conn = stage.peer().expect_syn();
    conn.expect_retransmission();
    if timestamps {
        conn = conn.with_timestamps();
    }
    conn.syn_ack();
    conn.expect_ack();
    stage.keep(client);
}

pub(super) fn syn_retransmitted(stage: &Stage) {
    syn_twice(stage, false);
}

pub(super) fn syn_retransmitted_timestamps(stage: &Stage) {
    syn_twice(stage, true);
}

/// The last ACK carries no data, which comes later.
fn deferred(stage: &Stage, listener: TcpListener) {
    let mut conn = half_open(stage);
    conn.ack();
    pause(200);
    conn.data(b"question");
    conn.expect_ack();
    stage.keep((accept(&listener), listener));
}

pub(super) fn deferred_accept(stage: &Stage) {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, SERVER));
    let listener = TcpListener::from(stage.namespace.bound_socket(address));
    set_option(&listener, libc::TCP_DEFER_ACCEPT, 10);
    SockRef::from(&listener).listen(1).expect("it listens");
    deferred(stage, listener);
}

pub(super) fn deferred_accept_set_late(stage: &Stage) {
    let listener = stage.listen();
    set_option(&listener, libc::TCP_DEFER_ACCEPT, 10);
    // Only a scan can find that out.
    stage.wait_for_scan();
    deferred(stage, listener);
}

pub(super) fn wrong_syn_ack(stage: &Stage) {
    let client = stage.begin_connect();
    let mut conn = stage.peer().expect_syn();
    conn.wrong_syn_ack();
    conn.expect_rst();
    conn.syn_ack();
    conn.expect_ack();
    stage.keep(client);
}

pub(super) fn refused_by_rst(stage: &Stage) {
    let client = stage.begin_connect();
    stage.peer().expect_syn().rst();
    stage.keep(client);
}

fn unreachable(stage: &Stage, what: DestUnreachableHeader) {
    let client = stage.begin_connect();
    stage.peer().expect_syn().icmp(what);
    stage.keep(client);
}

pub(super) fn refused_by_icmp_port(stage: &Stage) {
    unreachable(stage, DestUnreachableHeader::Port);
}

pub(super) fn refused_by_icmp_protocol(stage: &Stage) {
    unreachable(stage, DestUnreachableHeader::Protocol);
}

pub(super) fn host_unreachable(stage: &Stage) {
    unreachable(stage, DestUnreachableHeader::Host);
}

pub(super) fn net_unreachable(stage: &Stage) {
    unreachable(stage, DestUnreachableHeader::Network);
}

pub(super) fn syn_timeout(stage: &Stage) {
    let client = stage.socket();
    // Since Linux 6.5.
    stage.namespace.set_if_there("ipv4/tcp_syn_linear_timeouts", 0);
    set_option(&client, libc::TCP_SYNCNT, 1);
    stage.begin(&client);
    stage.wait_for("SYN-SENT", 0);
    stage.keep(client);
}

pub(super) fn cancelled(stage: &Stage) {
    drop(stage.begin_connect());
}

pub(super) fn abandoned(stage: &Stage) {
    let client = stage.begin_connect();
    let sent_again = || stage.namespace.counters().get("TCPSynRetrans");
    lab::eventually_equal("SYNs sent again", 1, sent_again);
    drop(client);
}

pub(super) fn connecting_socket_destroyed(stage: &Stage) {
    let client = stage.begin_connect();
    stage.namespace.run("ss -K -tn state syn-sent");
    stage.keep(client);
}
