//! Situations of which both ends are on this host.

use std::{
    io::Write as _,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::Duration,
};

use synfin_common::state::TcpState;

use super::{FEW, Play, be_refused, few_pairs, servers::restart};
use crate::lab::{Pair, eventually, reset, wait_for_state};

pub(super) fn server_does_not_read(play: &Play<'_>) {
    let wire = &play.stage.within;
    let listener = wire.far.listen(play.here());
    play.begin();
    for Pair { mut client, server } in few_pairs(wire, &listener) {
        client.write_all(b"a question").expect("the client writes");
        eventually("the data arrives", || (server.peek(&mut [0]).ok()? > 0).then_some(()));
        drop(server);
        wait_for_state(&client, TcpState::Close);
    }
    play.keep(listener);
}

pub(super) fn nobody_here(play: &Play<'_>) {
    play.begin();
    be_refused(&play.stage.within.near, play.here());
}

pub(super) fn overflows_here(play: &Play<'_>) {
    const LIMIT: usize = 2;
    let wire = &play.stage.within;
    let listener = wire.far.listen_up_to(play.here(), LIMIT as i32);
    play.begin();
    let waiting: Vec<_> = (0..=LIMIT).map(|_| wire.near.connect(play.here())).collect();
    let more: Vec<_> = (0..FEW).map(|_| wire.near.begin_connect(play.here())).collect();
    thread::sleep(Duration::from_millis(1_500));
    drop(more);
    play.keep((listener, waiting));
}

pub(super) fn one_address(play: &Play<'_>) {
    let namespace = &play.stage.within.near;
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, play.port));
    let listener = namespace.listen(at);
    play.begin();
    be_refused(namespace, (Ipv6Addr::LOCALHOST, play.port).into());
    let connect = |_| {
        let client = namespace.connect(at).expect("a connection");
        (client, listener.accept().expect("the connection"))
    };
    let pairs: Vec<_> = (0..FEW).map(connect).collect();
    play.keep((pairs, listener));
}

pub(super) fn resets_here(play: &Play<'_>) {
    let wire = &play.stage.within;
    let listener = wire.far.listen(play.here());
    play.begin();
    for mut pair in few_pairs(wire, &listener) {
        pair.send(b"question");
        let Pair { client, server } = pair;
        reset(client);
        wait_for_state(&server, TcpState::Close);
    }
    play.keep(listener);
}

pub(super) fn restarts_here(play: &Play<'_>) {
    play.begin();
    restart(play, &play.stage.within, play.here());
}
