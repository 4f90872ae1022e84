//! Healthy loads.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    thread,
    time::Duration,
};

use super::{
    FEW, Play, few_pairs,
    servers::{accept_all, listen_with_others},
};
use crate::lab::{self, Pair, Wire, accept, wait_for_end};

pub(super) fn scan(play: &Play<'_>) {
    const PORTS: std::ops::Range<u16> = 20_000..20_100;
    play.begin();
    for port in PORTS {
        play.stage.inward.near.connect((Wire::FAR4, port)).expect_err("no listener");
    }
}

pub(super) fn load_test(play: &Play<'_>) {
    let wire = &play.stage.within;
    let listener = wire.far.listen(play.at());
    play.begin();
    for mut pair in wire.pairs(&listener, play.at(), lab::scaled(200, 50)) {
        pair.send(b"question");
        pair.answer(b"answer");
        pair.close_by_client();
    }
    play.keep(listener);
}

pub(super) fn server_closes(play: &Play<'_>) {
    let wire = &play.stage.within;
    let listener = wire.far.listen(play.at());
    play.begin();
    for mut pair in wire.pairs(&listener, play.at(), 10 * FEW) {
        pair.send(b"question");
        pair.answer(b"answer");
        pair.close_by_server();
    }
    play.keep(listener);
}

pub(super) fn half_closes(play: &Play<'_>) {
    let wire = &play.stage.within;
    let listener = wire.far.listen(play.at());
    play.begin();
    for mut pair in few_pairs(wire, &listener) {
        pair.send(b"question");
        pair.client.shutdown(Shutdown::Write).expect("a FIN");
        assert_eq!(pair.server.read(&mut [0]).expect("the end"), 0);
        pair.answer(b"answer");
        pair.close_by_server();
    }
    play.keep(listener);
}

pub(super) fn kept_alive(play: &Play<'_>) {
    let wire = &play.stage.within;
    let listener = wire.far.listen(play.at());
    play.begin();
    let mut pairs = few_pairs(wire, &listener);
    for _ in 0..20 {
        for pair in &mut pairs {
            pair.send(b"question");
            pair.answer(b"answer");
        }
        thread::sleep(Duration::from_millis(50));
    }
    pairs.into_iter().for_each(Pair::close_by_client);
    play.keep(listener);
}

pub(super) fn idle(play: &Play<'_>) {
    let wire = &play.stage.within;
    let listener = wire.far.listen(play.at());
    let pairs = few_pairs(wire, &listener);
    let unused = wire.near.listen((Wire::NEAR4, play.port));
    play.begin();
    let later = few_pairs(wire, &listener);
    play.keep((listener, pairs, unused, later));
}

pub(super) fn bulk(play: &Play<'_>) {
    let wire = &play.stage.within;
    let listener = wire.far.listen(play.at());
    play.begin();
    for Pair { mut client, server } in few_pairs(wire, &listener) {
        thread::scope(|scope| {
            scope.spawn(|| wait_for_end(server));
            client.write_all(&vec![0; 4 << 20]).expect("the data is sent");
            drop(client);
        });
    }
    play.keep(listener);
}

pub(super) fn rolling_restart(play: &Play<'_>) {
    let wire = &play.stage.within;
    let mut listener = listen_with_others(play, wire);
    play.begin();
    let mut kept = Vec::new();
    for _ in 0..FEW {
        kept.extend((0..FEW).map(|_| wire.near.connect(play.at()).expect("a connection")));
        let next = listen_with_others(play, wire);
        kept.extend(accept_all(&listener));
        play.close(std::mem::replace(&mut listener, next));
    }
    kept.extend((0..FEW).map(|_| wire.near.connect(play.at()).expect("a connection")));
    kept.extend(accept_all(&listener));
    play.keep((listener, kept));
}

pub(super) fn handed_over(play: &Play<'_>) {
    let wire = &play.stage.within;
    let listener = wire.far.listen(play.at());
    play.begin();
    let taken_over = listener.try_clone().expect("a listener");
    drop(listener);
    few_pairs(wire, &taken_over).into_iter().for_each(Pair::close_by_client);
    play.keep(taken_over);
}

pub(super) fn early_client(play: &Play<'_>) {
    let wire = &play.stage.within;
    play.begin();
    wire.near.connect(play.at()).expect_err("no listener yet");
    let listener = wire.far.listen(play.at());
    for _ in 0..FEW {
        let client = wire.near.connect(play.at()).expect("a connection");
        Pair { client, server: accept(&listener) }.close_by_client();
    }
    play.keep(listener);
}

pub(super) fn cancelled(play: &Play<'_>) {
    let wire = &play.stage.outward;
    play.drop_packets(&wire.far, &format!("tcp dport {}", play.port));
    play.begin();
    for _ in 0..2 * FEW {
        drop(wire.near.begin_connect(play.at()));
    }
}

pub(super) fn closes_later(play: &Play<'_>) {
    let wire = &play.stage.within;
    let listener = wire.far.listen(play.at());
    play.begin();
    let mut servers = Vec::new();
    for Pair { client, server } in few_pairs(wire, &listener) {
        drop(client);
        servers.push(server);
    }
    thread::sleep(Duration::from_secs(1));
    servers.into_iter().for_each(wait_for_end);
    play.keep(listener);
}
