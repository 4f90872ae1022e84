//! Segments and sockets that are easily attributed to the wrong connection.

use nix::libc;

use super::stage::{SERVER, Stage};
use crate::lab::{Actor, Pair, accept, disconnect, pause, wait_for_end};

pub(super) fn closed_port(stage: &Stage) {
    let mut conn = stage.peer().client(SERVER);
    conn.syn();
    conn.expect_rst();
}

pub(super) fn old_ack_to_a_listener(stage: &Stage) {
    // If the ACK could belong to an old cookie, as it could for two minutes of a kernel's first seven
    // (tcp_synq_no_recent_overflow), another counter would change as well.
    stage.set("tcp_syncookies", 0);
    stage.keep(stage.listen());
    let mut conn = stage.peer().client(SERVER);
    conn.ack();
    conn.expect_rst();
}

pub(super) fn new_syn_in_time_wait(stage: &Stage) {
    let listener = stage.listen();
    let mut conn = stage.peer().connect(SERVER);
    drop(accept(&listener));
    conn.expect_fin();
    conn.fin();
    conn.expect_ack();
    stage.wait_for("TIME-WAIT", 1);
    conn.new_syn();
    conn.expect_syn_ack();
    conn.ack();
    stage.keep((accept(&listener), listener));
}

pub(super) fn time_wait_reused(stage: &Stage) {
    let address = stage.without_peer();
    stage.set("ip_local_port_range", "40000 40000");
    stage.set("tcp_tw_reuse", 1);
    let listener = stage.namespace.listen((address, SERVER));
    stage.pair(&listener).close_by_client();
    stage.wait_for("TIME-WAIT", 1);
    // Its timestamps distinguish the segments after a second.
    pause(1100);
    let Pair { client, server } = stage.pair(&listener);
    stage.keep((client, server, listener));
}

pub(super) fn reconnected_after_refusal(stage: &Stage) {
    let socket = stage.begin_connect();
    stage.peer().expect_syn().rst();
    // This connect() returns the result of the first one.
    assert_eq!(stage.connect(&socket).raw_os_error(), Some(libc::ECONNREFUSED));
    stage.begin(&socket);
    stage.peer().accept();
    stage.keep(socket);
}

pub(super) fn reconnected_after_disconnect(stage: &Stage) {
    let (socket, mut conn) = stage.client();
    disconnect(&socket);
    conn.expect_rst();
    stage.begin(&socket);
    stage.peer().accept();
    stage.keep(socket);
}

pub(super) fn equal_tuples(stage: &Stage) {
    let address = stage.without_peer();
    let pairs = stage.namespaces().map(|namespace| {
        namespace.set("ipv4/ip_local_port_range", "40000 40000");
        let listener = namespace.listen((address, SERVER));
        let pair = namespace.pair_with(&listener, (address, SERVER));
        (pair, listener)
    });
    for (pair, _listener) in pairs {
        pair.close_by_client();
    }
}

pub(super) fn between_namespaces(stage: &Stage) {
    stage.link_twin();
    let listener = stage.listen();
    stage.twin.pair_with(&listener, (stage.host(), SERVER)).close_by_client();
    stage.wait_for("TIME-WAIT", 0);
}

pub(super) fn fork(stage: &Stage) {
    let address = (stage.without_peer(), SERVER);
    let listener = stage.namespace.listen(address);
    let mut actor = Actor::start(&stage.namespace, None, "parent");
    actor.connect(address, 1);
    let server = accept(&listener);
    actor.prefork(1);
    actor.close();
    pause(50);
    stage.wait_for("ESTAB", 2);
    drop(actor);
    wait_for_end(server);
    stage.wait_for("TIME-WAIT", 1);
}
