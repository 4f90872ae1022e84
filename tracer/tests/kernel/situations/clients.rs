//! Situations of this host's clients.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use nix::libc;
use synfin_common::state::TcpState;

use super::{FEW, Play, be_refused, few_pairs};
use crate::lab::{self, Pair, connect_to, reset, set_option, wait_for_end, wait_for_state};

pub(super) fn refused(play: &Play<'_>) {
    play.begin();
    be_refused(&play.stage.outward.near, play.at());
}

pub(super) fn rejected(play: &Play<'_>) {
    let wire = &play.stage.outward;
    let rule = format!("tcp dport {} reject with icmp type port-unreachable", play.port);
    play.filter(&wire.far, &rule);
    play.begin();
    be_refused(&wire.near, play.at());
}

pub(super) fn unanswered(play: &Play<'_>) {
    let wire = &play.stage.outward;
    play.drop_packets(&wire.far, &format!("tcp dport {}", play.port));
    play.begin();
    thread::scope(|scope| {
        for _ in 0..FEW {
            scope.spawn(|| wire.near.connect(play.at()).expect_err("no answer"));
        }
    });
}

pub(super) fn given_up(play: &Play<'_>) {
    // The SYN is sent again after a second.
    give_up_after(play, Duration::from_millis(1_300));
}

pub(super) fn given_up_early(play: &Play<'_>) {
    give_up_after(play, Duration::from_millis(300));
}

fn give_up_after(play: &Play<'_>, time: Duration) {
    let wire = &play.stage.outward;
    play.drop_packets(&wire.far, &format!("tcp dport {}", play.port));
    play.begin();
    let clients: Vec<_> = (0..FEW).map(|_| wire.near.begin_connect(play.at())).collect();
    thread::sleep(time);
    drop(clients);
}

pub(super) fn waits(play: &Play<'_>) {
    let wire = &play.stage.outward;
    play.drop_packets(&wire.far, &format!("tcp dport {}", play.port));
    play.begin();
    let clients = (0..FEW).map(|_| {
        let client = wire.near.socket(play.at().ip());
        set_option(&client, libc::TCP_SYNCNT, 6);
        client.set_nonblocking(true).expect("O_NONBLOCK");
        client.connect(&play.at().into()).expect_err("it waits");
        client
    });
    play.keep(clients.collect::<Vec<_>>());
}

pub(super) fn host_down(play: &Play<'_>) {
    let nobody = SocketAddr::from((Ipv4Addr::new(10, 77, 0, 99), play.port));
    play.begin();
    thread::scope(|scope| {
        for _ in 0..FEW {
            let socket = play.stage.outward.near.socket(nobody.ip());
            set_option(&socket, libc::TCP_SYNCNT, 6);
            scope.spawn(move || connect_to(socket, nobody).expect_err("no neighbour"));
        }
    });
}

pub(super) fn spread(play: &Play<'_>) {
    let wire = &play.stage.outward;
    let hosts = (11..16).map(|host| Ipv4Addr::new(10, 77, 0, host));
    for host in hosts.clone() {
        wire.far.run(&format!("ip address add {host}/24 dev wire"));
    }
    play.begin();
    for host in hosts {
        for _ in 1..FEW {
            wire.near.connect((host, play.port)).expect_err("nobody listens");
        }
    }
}

pub(super) fn syn_lost(play: &Play<'_>) {
    let wire = &play.stage.outward;
    let every_other = format!("tcp dport {} tcp flags syn numgen inc mod 2 0", play.port);
    play.drop_packets(&wire.far, &every_other);
    let listener = wire.far.listen(play.at());
    play.begin();
    play.keep(few_pairs(wire, &listener));
}

pub(super) fn path_dies(play: &Play<'_>) {
    let wire = &play.stage.outward;
    let listener = wire.far.listen(play.at());
    play.begin();
    let mut pairs = few_pairs(wire, &listener);
    exchange(&mut pairs);
    die(play, &mut pairs, 900);
}

/// The path dies, and data is not acknowledged for this time in milliseconds.
fn die(play: &Play<'_>, pairs: &mut [Pair], timeout: i32) {
    play.drop_packets(&play.stage.outward.far, &format!("tcp dport {}", play.port));
    for Pair { client, .. } in &mut *pairs {
        set_option(client, libc::TCP_USER_TIMEOUT, timeout);
        client.write_all(b"question").expect("the data is sent");
    }
    for pair in pairs {
        pair.client.read(&mut [0]).expect_err("it times out");
    }
}

fn exchange(pairs: &mut [Pair]) {
    for pair in pairs {
        pair.send(b"question");
        pair.answer(b"answer");
    }
}

pub(super) fn black_hole(play: &Play<'_>) {
    let wire = &play.stage.outward;
    let listener = wire.far.listen(play.at());
    play.drop_packets(&wire.far, &format!("tcp dport {} meta length > 1000", play.port));
    play.begin();
    let mut pairs = few_pairs(wire, &listener);
    for pair in &mut pairs {
        pair.send(b"question");
        pair.client.write_all(&vec![0; 20_000]).expect("the data is sent");
    }
    play.keep(pairs);
}

pub(super) fn lossy(play: &Play<'_>) {
    let wire = &play.stage.outward;
    let listener = wire.far.listen(play.at());
    play.drop_packets(&wire.far, &one_in_sixteen(play));
    play.begin();
    for mut pair in few_pairs(wire, &listener) {
        send_often(&mut pair);
        pair.close_by_client();
    }
}

pub(super) fn lossy_open(play: &Play<'_>) {
    let wire = &play.stage.outward;
    let listener = wire.far.listen(play.at());
    let mut pairs = few_pairs(wire, &listener);
    play.drop_packets(&wire.far, &one_in_sixteen(play));
    play.begin();
    pairs.iter_mut().for_each(send_often);
    play.keep(pairs);
}

/// Matches one data segment in sixteen.
fn one_in_sixteen(play: &Play<'_>) -> String {
    format!("tcp dport {} meta length > 300 numgen inc mod 16 0", play.port)
}

fn send_often(pair: &mut Pair) {
    for _ in 0..32 {
        pair.send(&[0; 500]);
    }
}

pub(super) fn forgotten(play: &Play<'_>) {
    let wire = &play.stage.outward;
    let listener = wire.far.listen(play.at());
    let mut pairs = few_pairs(wire, &listener);
    exchange(&mut pairs);
    play.begin();
    die(play, &mut pairs, 500);
}

pub(super) fn used_once_more(play: &Play<'_>) {
    let wire = &play.stage.outward;
    let listener = wire.far.listen(play.at());
    play.begin();
    for mut pair in few_pairs(wire, &listener) {
        pair.send(b"question");
        pair.answer(b"answer");
        let mut client = pair.leak_client();
        client.write_all(b"question").expect("the data is sent");
        wait_for_state(&client, TcpState::Close);
    }
}

pub(super) fn reset_in_use(play: &Play<'_>) {
    let wire = &play.stage.outward;
    let listener = wire.far.listen(play.at());
    play.begin();
    for mut pair in few_pairs(wire, &listener) {
        pair.send(b"question");
        let Pair { client, server } = pair;
        reset(server);
        wait_for_state(&client, TcpState::Close);
    }
}

pub(super) fn client_does_not_read(play: &Play<'_>) {
    let wire = &play.stage.outward;
    let listener = wire.far.listen(play.at());
    play.begin();
    for mut pair in few_pairs(wire, &listener) {
        pair.answer_unread(b"an answer");
        let Pair { client, server } = pair;
        drop(client);
        wait_for_end(server);
    }
}

pub(super) fn answer_too_late(play: &Play<'_>) {
    let wire = &play.stage.outward;
    let listener = wire.far.listen(play.at());
    play.begin();
    super::answer_too_late(few_pairs(wire, &listener));
}

pub(super) fn client_leaks(play: &Play<'_>) {
    let wire = &play.stage.outward;
    let listener = wire.far.listen(play.at());
    let pairs = few_pairs(wire, &listener);
    play.keep(pairs.into_iter().map(Pair::leak_client).collect::<Vec<_>>());
}

pub(super) fn ports_run_out(play: &Play<'_>) {
    let wire = &play.stage.few_ports;
    let listener = wire.far.listen(play.at());
    play.begin();
    wire.pairs(&listener, play.at(), 90).for_each(Pair::close_by_client);
}

pub(super) fn table_is_full(play: &Play<'_>) {
    let wire = &play.stage.small_table;
    let listener = wire.far.listen(play.at());
    play.begin();
    wire.pairs(&listener, play.at(), 2 + FEW).map(Pair::leak_server).for_each(drop);
    lab::eventually("the table is full", || {
        (wire.near.counters().get("TCPTimeWaitOverflow") >= FEW as u64).then_some(())
    });
}
