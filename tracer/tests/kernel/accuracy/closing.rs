//! Connections that end normally, by FINs.

use std::{io::Read, net::Shutdown};

use nix::libc;

use super::stage::Stage;
use crate::lab::set_option;

pub(super) fn passive_close(stage: &Stage) {
    let (client, mut conn) = stage.client();
    conn.fin();
    conn.expect_ack();
    drop(client);
    conn.expect_fin();
    conn.ack();
}

pub(super) fn active_close(stage: &Stage) {
    let (client, mut conn) = stage.client();
    drop(client);
    conn.expect_fin();
    conn.ack();
    conn.fin();
    conn.expect_ack();
}

pub(super) fn active_close_by_server(stage: &Stage) {
    let (server, mut conn) = stage.server();
    drop(server);
    conn.expect_fin();
    conn.ack();
    conn.fin();
    conn.expect_ack();
}

pub(super) fn active_close_fin_with_ack(stage: &Stage) {
    let (client, mut conn) = stage.client();
    drop(client);
    conn.expect_fin();
    conn.fin();
    conn.expect_ack();
}

pub(super) fn half_close(stage: &Stage) {
    let (mut client, mut conn) = stage.client();
    client.shutdown(Shutdown::Write).expect("shutdown");
    conn.expect_fin();
    conn.ack();
    conn.data(b"last data");
    conn.expect_ack();
    let mut read = [0; 9];
    client.read_exact(&mut read).expect("the last data");
    conn.fin();
    conn.expect_ack();
    drop(client);
}

pub(super) fn closed_twice(stage: &Stage) {
    let (client, mut conn) = stage.client();
    client.shutdown(Shutdown::Write).expect("shutdown");
    drop(client);
    conn.expect_fin();
    conn.ack();
    conn.fin();
    conn.expect_ack();
}

pub(super) fn simultaneous_close(stage: &Stage) {
    let (client, mut conn) = stage.client();
    drop(client);
    conn.expect_fin();
    conn.crossing().fin();
    conn.expect_ack();
    conn.ack();
}

pub(super) fn no_fin_from_the_peer(stage: &Stage) {
    stage.set("tcp_fin_timeout", 1);
    let (client, mut conn) = stage.client();
    drop(client);
    conn.expect_fin();
    conn.ack();
    stage.wait_for("FIN-WAIT-2", 0);
}

pub(super) fn left_in_fin_wait2(stage: &Stage) {
    let (client, mut conn) = stage.client();
    drop(client);
    conn.expect_fin();
    conn.ack();
}

pub(super) fn long_fin_timeout(stage: &Stage) {
    stage.set("tcp_fin_timeout", 61);
    let (client, mut conn) = stage.client();
    drop(client);
    conn.expect_fin();
    conn.ack();
    // It is a full socket for a second, and then a timewait socket, whose transitions have no hook.
    stage.wait_for_timer("FIN-WAIT-2", "timewait");
}

pub(super) fn time_wait_overflow(stage: &Stage) {
    stage.set("tcp_max_tw_buckets", 0);
    active_close_fin_with_ack(stage);
}

pub(super) fn negative_linger2(stage: &Stage) {
    let (client, mut conn) = stage.client();
    set_option(&client, libc::TCP_LINGER2, -1);
    drop(client);
    conn.expect_fin();
    conn.ack();
    conn.expect_rst();
}

pub(super) fn negative_linger2_half_closed(stage: &Stage) {
    let (client, mut conn) = stage.client();
    set_option(&client, libc::TCP_LINGER2, -1);
    client.shutdown(Shutdown::Write).expect("shutdown");
    conn.expect_fin();
    conn.ack();
    drop(client);
    conn.expect_rst();
}
