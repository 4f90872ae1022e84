//! More handshakes than a listener has room for.

use std::time::Duration;

use super::stage::{SERVER, Stage};
use crate::lab::accept;

/// SYNs of a flood.
const SYNS: usize = 200;
/// The listener's backlog. The queues have room for one more.
const BACKLOG: i32 = 64;

/// SYNs whose SYN-ACKs nobody answers.
fn flood(stage: &Stage) {
    for _ in 0..SYNS {
        stage.peer().client(SERVER).syn();
    }
}

pub(super) fn syn_flood(stage: &Stage) {
    stage.set("tcp_syncookies", 0);
    stage.keep(stage.listen_up_to(BACKLOG));
    flood(stage);
}

pub(super) fn syn_flood_with_cookies(stage: &Stage) {
    stage.set("tcp_syncookies", 1);
    let listener = stage.listen_up_to(BACKLOG);
    flood(stage);
    stage.peer().connect(SERVER);
    stage.keep((accept(&listener), listener));
}

pub(super) fn accept_queue_flood(stage: &Stage) {
    stage.keep(stage.listen_up_to(4));
    for _ in 0..5 {
        stage.peer().connect(SERVER);
    }
    for _ in 0..15 {
        stage.peer().client(SERVER).syn();
    }
    stage.peer().client(SERVER).expect_silence(Duration::from_millis(100));
}
