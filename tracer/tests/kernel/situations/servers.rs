//! Situations of this host's servers, whose clients are elsewhere.

use std::{
    io::Read as _,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    thread,
};

use nix::libc;
use socket2::SockRef;
use synfin::findings::thresholds::LISTENER_GAP;
use synfin_common::state::TcpState;

use super::{FEW, Play, answer_too_late, be_refused, few_pairs};
use crate::lab::{Pair, Wire, accept, reset, set_option, wait_for_state};

pub(super) fn overflows(play: &Play<'_>) {
    const LIMIT: usize = 4;
    let wire = &play.stage.inward;
    let listener = wire.far.listen_up_to(play.at(), LIMIT as i32);
    play.begin();
    let waiting: Vec<_> = (0..=LIMIT).map(|_| wire.near.connect(play.at())).collect();
    let more: Vec<_> = (0..FEW).map(|_| wire.near.begin_connect(play.at())).collect();
    play.keep((listener, waiting, more));
}

pub(super) fn hangs(play: &Play<'_>) {
    let wire = &play.stage.inward;
    let listener = wire.far.listen(play.at());
    play.begin();
    let clients: Vec<_> = (0..FEW).map(|_| wire.near.connect(play.at())).collect();
    play.keep((listener, clients));
}

pub(super) fn hangs_since(play: &Play<'_>) {
    let wire = &play.stage.inward;
    let listener = wire.far.listen(play.at());
    for _ in 0..FEW {
        drop(wire.near.connect(play.at()).expect("it waits"));
    }
    play.keep(listener);
}

pub(super) fn accepts_late(play: &Play<'_>) {
    let wire = &play.stage.inward;
    let listener = wire.far.listen_up_to(play.at(), 8);
    play.begin();
    let clients: Vec<_> = (0..7).map(|_| wire.near.connect(play.at())).collect();
    let servers: Vec<_> = (0..7).map(|_| accept(&listener)).collect();
    play.keep((listener, clients, servers));
}

pub(super) fn half_open(play: &Play<'_>) {
    let wire = &play.stage.inward;
    let listener = wire.far.listen(play.at());
    play.drop_packets(&wire.near, &format!("tcp sport {}", play.port));
    play.begin();
    let clients: Vec<_> = (0..FEW).map(|_| wire.near.begin_connect(play.at())).collect();
    play.keep((listener, clients));
}

pub(super) fn flooded(play: &Play<'_>) {
    let mut target = play.stage.flooded.lock().expect("no failure");
    let listener = target.namespace.listen((Ipv4Addr::UNSPECIFIED, play.port));
    drop(target);
    play.begin();
    target = play.stage.flooded.lock().expect("no failure");
    target.flood(play.port, 500);
    drop(target);
    play.keep(listener);
}

pub(super) fn restarts(play: &Play<'_>) {
    play.begin();
    restart(play, &play.stage.inward, play.at());
}

/// Restarts a server of which some connections wait for accept(); some clients come too early.
pub(super) fn restart(play: &Play<'_>, wire: &Wire, at: SocketAddr) {
    let listener = wire.far.listen(at);
    let waiting: Vec<_> = (0..FEW).map(|_| wire.near.connect(at).expect("it waits")).collect();
    play.close(listener);
    be_refused(&wire.near, at);
    thread::sleep(5 * LISTENER_GAP);
    play.keep((wire.far.listen(at), waiting));
}

pub(super) fn closes_partly(play: &Play<'_>) {
    let wire = &play.stage.inward;
    let [closes, stays] = [(); 2].map(|()| listen_with_others(play, wire));
    play.begin();
    // The kernel chooses the listener by the client's port.
    let clients: Vec<_> = (0..8 * FEW).map(|_| wire.near.connect(play.at())).collect();
    play.close(closes);
    let accepted = accept_all(&stays);
    play.keep((stays, clients, accepted));
}

/// Listens on an address on which others may listen as well.
pub(super) fn listen_with_others(play: &Play<'_>, wire: &Wire) -> TcpListener {
    let socket = wire.far.socket(Wire::FAR4);
    socket.set_reuse_port(true).expect("SO_REUSEPORT");
    socket.bind(&play.at().into()).expect("a free port");
    socket.listen(64).expect("a listener");
    socket.into()
}

/// Accepts all connections that wait.
pub(super) fn accept_all(listener: &TcpListener) -> Vec<std::net::TcpStream> {
    listener.set_nonblocking(true).expect("O_NONBLOCK");
    std::iter::from_fn(|| Some(listener.accept().ok()?.0)).collect()
}

pub(super) fn not_there(play: &Play<'_>) {
    play.begin();
    be_refused(&play.stage.inward.near, play.at());
}

pub(super) fn elsewhere(play: &Play<'_>) {
    let wire = &play.stage.inward;
    let listener = wire.far.listen((Ipv4Addr::LOCALHOST, play.port));
    play.begin();
    be_refused(&wire.near, play.at());
    play.keep(listener);
}

pub(super) fn checked(play: &Play<'_>) {
    let wire = &play.stage.inward;
    let listener = wire.far.listen(play.at());
    play.begin();
    for Pair { client, server } in few_pairs(wire, &listener) {
        reset(client);
        wait_for_state(&server, TcpState::Close);
    }
}

pub(super) fn impatient(play: &Play<'_>) {
    let wire = &play.stage.inward;
    let listener = wire.far.listen(play.at());
    play.begin();
    answer_too_late(few_pairs(wire, &listener));
}

pub(super) fn server_leaks(play: &Play<'_>) {
    let wire = &play.stage.inward;
    let listener = wire.far.listen(play.at());
    let pairs = few_pairs(wire, &listener);
    let leaked: Vec<_> = pairs.into_iter().map(Pair::leak_server).collect();
    play.keep((listener, leaked));
}

pub(super) fn clients_vanish(play: &Play<'_>) {
    let wire = &play.stage.inward;
    let listener = wire.far.listen(play.at());
    play.begin();
    let mut pairs = few_pairs(wire, &listener);
    play.drop_packets(&wire.near, &format!("tcp sport {}", play.port));
    for Pair { server, .. } in &pairs {
        for option in [libc::TCP_KEEPIDLE, libc::TCP_KEEPINTVL, libc::TCP_KEEPCNT] {
            set_option(server, option, 1);
        }
        SockRef::from(server).set_keepalive(true).expect("SO_KEEPALIVE");
    }
    for pair in &mut pairs {
        pair.server.read(&mut [0]).expect_err("it times out");
    }
    play.keep(pairs);
}
