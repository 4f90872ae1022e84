//! Connections older than the trace, which the stage starts only after they exist.

use super::stage::{SERVER, Stage};
use crate::lab::accept;

pub(super) fn older_server(stage: &Stage) {
    let (server, mut conn) = stage.server();
    stage.trace();
    conn.fin();
    conn.expect_ack();
    drop(server);
    conn.expect_fin();
    conn.ack();
}

pub(super) fn older_client(stage: &Stage) {
    let (client, mut conn) = stage.client();
    stage.trace();
    drop(client);
    conn.expect_fin();
    conn.ack();
    conn.fin();
    conn.expect_ack();
}

pub(super) fn older_bound_client(stage: &Stage) {
    stage.peer();
    let socket = stage.namespace.bound_socket((stage.host(), 903));
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    let client = socket.into();
    stage.begin(&client);
    stage.peer().accept();
    stage.trace();
    stage.wait_for_scan();
    stage.keep(client);
}

pub(super) fn older_without_listener(stage: &Stage) {
    let listener = stage.listen();
    let mut conn = stage.peer().connect(SERVER);
    let server = accept(&listener);
    drop(listener);
    stage.trace();
    stage.wait_for_scan();
    conn.fin();
    conn.expect_ack();
    stage.keep(server);
}

pub(super) fn older_close_wait(stage: &Stage) {
    let (server, mut conn) = stage.server();
    conn.fin();
    conn.expect_ack();
    stage.trace();
    stage.wait_for_scan();
    stage.keep(server);
}

pub(super) fn older_time_wait(stage: &Stage) {
    let address = stage.without_peer();
    let listener = stage.namespace.listen((address, SERVER));
    stage.pair(&listener).close_by_client();
    stage.wait_for("TIME-WAIT", 1);
    stage.trace();
    stage.wait_for_scan();
    stage.keep(listener);
}
