//! Connections that end abnormally: by a reset of either side, by a timer, or by a third party.

use std::{
    io::Write,
    net::{Shutdown, TcpStream},
    time::Duration,
};

use etherparse::icmpv4::DestUnreachableHeader;
use nix::{
    libc,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use socket2::{SockRef, TcpKeepalive};
use synfin_common::state::TcpState;

use super::{
    closing::active_close,
    stage::{SERVER, Stage},
};
use crate::lab::{
    Actor, Conn, accept, disconnect, reset, set_option, wait_for_end, wait_for_state,
};

/// The host has closed, and its FIN is not acknowledged yet.
fn fin_wait1(stage: &Stage) -> Conn<'_> {
    let (client, mut conn) = stage.client();
    drop(client);
    conn.expect_fin();
    conn
}

pub(super) fn data_with_ack_of_fin(stage: &Stage) {
    let mut conn = fin_wait1(stage);
    conn.data(b"one more thing");
    conn.expect_rst();
}

pub(super) fn data_after_close(stage: &Stage) {
    let mut conn = fin_wait1(stage);
    conn.crossing().data(b"one more thing");
    conn.expect_rst();
}

pub(super) fn data_in_fin_wait2(stage: &Stage) {
    // If the timeout is at most a minute, the kernel keeps only a timewait socket.
    stage.set("tcp_fin_timeout", 120);
    let mut conn = fin_wait1(stage);
    conn.ack();
    conn.data(b"one more thing");
    conn.expect_rst();
}

pub(super) fn data_in_closing(stage: &Stage) {
    let mut conn = fin_wait1(stage);
    conn.crossing().fin();
    conn.expect_ack();
    conn.crossing().overlapping_data(b"one more thing");
    conn.expect_rst();
}

pub(super) fn data_for_a_timewait_socket(stage: &Stage) {
    let mut conn = fin_wait1(stage);
    conn.ack();
    conn.data(b"one more thing");
    conn.expect_rst();
}

pub(super) fn rst_in_established(stage: &Stage) {
    let (client, mut conn) = stage.client();
    conn.rst();
    stage.keep(client);
}

pub(super) fn rst_in_close_wait(stage: &Stage) {
    let (client, mut conn) = stage.client();
    conn.fin();
    conn.expect_ack();
    conn.rst();
    stage.keep(client);
}

pub(super) fn rst_in_fin_wait1(stage: &Stage) {
    fin_wait1(stage).crossing().rst();
}

pub(super) fn rst_in_fin_wait2(stage: &Stage) {
    let (client, mut conn) = half_closed(stage);
    conn.rst();
    stage.keep(client);
}

pub(super) fn rst_in_closing(stage: &Stage) {
    let mut conn = fin_wait1(stage);
    conn.crossing().fin();
    conn.expect_ack();
    conn.crossing().rst();
}

pub(super) fn rst_in_last_ack(stage: &Stage) {
    let (client, mut conn) = stage.client();
    conn.fin();
    conn.expect_ack();
    drop(client);
    conn.expect_fin();
    conn.crossing().rst();
}

pub(super) fn rst_in_time_wait(stage: &Stage) {
    let mut conn = fin_wait1(stage);
    conn.ack();
    conn.fin();
    conn.expect_ack();
    conn.rst();
    stage.wait_for("TIME-WAIT", 0);
}

pub(super) fn rst_in_window(stage: &Stage) {
    let (client, mut conn) = stage.client();
    conn.rst_in_window();
    conn.expect_ack();
    stage.keep(client);
}

/// Data that the application does not read.
fn unread(conn: &mut Conn) {
    conn.data(b"unread data");
    conn.expect_ack();
}

pub(super) fn unread_data(stage: &Stage) {
    let (client, mut conn) = stage.client();
    unread(&mut conn);
    drop(client);
    conn.expect_rst();
}

pub(super) fn unread_data_in_close_wait(stage: &Stage) {
    let (client, mut conn) = stage.client();
    unread(&mut conn);
    conn.fin();
    conn.expect_ack();
    drop(client);
    conn.expect_rst();
}

pub(super) fn linger0(stage: &Stage) {
    let (client, mut conn) = stage.client();
    reset(client);
    conn.expect_rst();
}

pub(super) fn linger0_with_unread_data(stage: &Stage) {
    let (client, mut conn) = stage.client();
    unread(&mut conn);
    reset(client);
    conn.expect_rst();
}

/// The host has shut down its side, and the peer has acknowledged the FIN.
fn half_closed(stage: &Stage) -> (TcpStream, Conn<'_>) {
    let (client, mut conn) = stage.client();
    client.shutdown(Shutdown::Write).expect("shutdown");
    conn.expect_fin();
    conn.ack();
    (client, conn)
}

pub(super) fn unread_data_half_closed(stage: &Stage) {
    let (client, mut conn) = half_closed(stage);
    unread(&mut conn);
    drop(client);
    conn.expect_rst();
}

pub(super) fn linger0_half_closed(stage: &Stage) {
    let (client, mut conn) = half_closed(stage);
    reset(client);
    conn.expect_rst();
}

pub(super) fn disconnected(stage: &Stage) {
    let (client, mut conn) = stage.client();
    disconnect(&client);
    conn.expect_rst();
    stage.keep(client);
}

pub(super) fn listener_closed(stage: &Stage) {
    let listener = stage.listen();
    let conns = [(); 2].map(|()| stage.peer().connect(SERVER));
    drop(listener);
    conns.into_iter().for_each(|mut conn| conn.expect_rst());
}

/// Data is sent, and the peer does not answer.
fn unanswered(stage: &Stage, prepare: impl FnOnce(&TcpStream)) -> (TcpStream, Conn<'_>) {
    stage.set("tcp_retries2", 1);
    let (mut client, mut conn) = stage.client();
    prepare(&client);
    client.write_all(b"unanswered data").expect("the data is sent");
    conn.expect_data(b"unanswered data");
    (client, conn)
}

fn times_out(stage: &Stage, client: TcpStream) {
    wait_for_state(&client, TcpState::Close);
    stage.keep(client);
}

pub(super) fn stalled(stage: &Stage) {
    let (mut client, mut conn) = stage.client();
    client.write_all(b"unanswered data").expect("the data is sent");
    conn.expect_data(b"unanswered data");
    conn.expect_retransmission();
    stage.keep(client);
}

pub(super) fn retransmission_timeout(stage: &Stage) {
    let (client, _) = unanswered(stage, |_| {});
    times_out(stage, client);
}

pub(super) fn retransmission_timeout_soft_error(stage: &Stage) {
    let (client, conn) = unanswered(stage, |_| {});
    conn.icmp(DestUnreachableHeader::Host);
    times_out(stage, client);
}

fn set_user_timeout(client: &TcpStream, milliseconds: u64) {
    let timeout = Duration::from_millis(milliseconds);
    SockRef::from(client).set_tcp_user_timeout(Some(timeout)).expect("TCP_USER_TIMEOUT");
}

pub(super) fn user_timeout(stage: &Stage) {
    let (client, _) = unanswered(stage, |client| set_user_timeout(client, 500));
    times_out(stage, client);
}

pub(super) fn zero_window(stage: &Stage) {
    stage.set("tcp_retries2", 2);
    let (mut client, mut conn) = stage.client();
    conn.close_window();
    client.write_all(b"waiting data").expect("the data waits");
    times_out(stage, client);
}

/// One keepalive probe, after a second without a segment.
fn probing(stage: &Stage) -> TcpStream {
    let (client, _) = stage.client();
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new().with_time(second).with_interval(second).with_retries(1);
    SockRef::from(&client).set_tcp_keepalive(&keepalive).expect("SO_KEEPALIVE");
    client
}

pub(super) fn keepalive(stage: &Stage) {
    let client = probing(stage);
    times_out(stage, client);
}

pub(super) fn keepalive_user_timeout(stage: &Stage) {
    let client = probing(stage);
    set_user_timeout(&client, 1500);
    set_option(&client, libc::TCP_KEEPCNT, 100);
    times_out(stage, client);
}

pub(super) fn orphan_in_fin_wait1(stage: &Stage) {
    stage.set("tcp_orphan_retries", 1);
    fin_wait1(stage);
    stage.wait_for("FIN-WAIT-1", 0);
}

pub(super) fn orphan_in_closing(stage: &Stage) {
    stage.set("tcp_orphan_retries", 1);
    let mut conn = fin_wait1(stage);
    conn.crossing().fin();
    conn.expect_ack();
    stage.wait_for("CLOSING", 0);
}

pub(super) fn orphan_in_last_ack(stage: &Stage) {
    stage.set("tcp_orphan_retries", 1);
    let (client, mut conn) = stage.client();
    conn.fin();
    conn.expect_ack();
    drop(client);
    conn.expect_fin();
    stage.wait_for("LAST-ACK", 0);
}

pub(super) fn destroyed(stage: &Stage) {
    let (client, mut conn) = stage.client();
    stage.namespace.run("ss -K -tn state established");
    conn.expect_rst();
    stage.keep(client);
}

pub(super) fn listener_destroyed(stage: &Stage) {
    let listener = stage.listen();
    let mut conn = stage.peer().connect(SERVER);
    stage.namespace.run("ss -K -tln");
    conn.expect_rst();
    stage.keep(listener);
}

pub(super) fn time_wait_destroyed(stage: &Stage) {
    active_close(stage);
    stage.wait_for("TIME-WAIT", 1);
    stage.namespace.run("ss -K -tn state time-wait");
    stage.wait_for("TIME-WAIT", 0);
}

pub(super) fn repair_close(stage: &Stage) {
    let (client, mut conn) = stage.client();
    set_option(&client, libc::TCP_REPAIR, 1);
    drop(client);
    conn.expect_silence(Duration::from_millis(100));
}

pub(super) fn icmp_in_established(stage: &Stage) {
    let (mut client, mut conn) = stage.client();
    client.write_all(b"question").expect("the data is sent");
    conn.expect_data(b"question");
    conn.icmp(DestUnreachableHeader::Host);
    conn.ack();
    stage.keep(client);
}

pub(super) fn process_killed(stage: &Stage) {
    let address = (stage.without_peer(), SERVER);
    let listener = stage.namespace.listen(address);
    let mut actor = Actor::start(&stage.namespace, None, "victim");
    actor.connect(address, 1);
    let server = accept(&listener);
    let victim = i32::try_from(actor.pid()).expect("a process id");
    kill(Pid::from_raw(victim), Signal::SIGKILL).expect("SIGKILL");
    wait_for_end(server);
    stage.wait_for("TIME-WAIT", 1);
}
