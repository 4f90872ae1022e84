//! Connections that are stuck in a state, and their age.

use std::{
    net::{Shutdown, SocketAddr, TcpStream},
    process, thread,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use synfin_common::state::TcpState;

use super::{CLOCKS, check_within, column, micros, time, timed, watch};
use crate::lab::{self, Actor, Namespace, Report, Wire, eventually_equal, wait_for_state};

/// A time that is longer than the error of the clocks.
fn apart() -> Duration {
    10 * lab::slowed(CLOCKS)
}

/// The number of a port's connections in a state, on either side.
fn count(namespace: &Namespace, state: &str, port: u16) -> usize {
    let is_it = |socket: &&lab::Sock| {
        socket.state == state && [socket.local_port, socket.remote_port].contains(&port)
    };
    namespace.sockets().iter().filter(is_it).count()
}

/// The columns of the oldest connection in a state.
struct Oldest {
    since: SystemTime,
    at_least: Value,
    owner: Value,
    pid: Value,
    count: Value,
}

impl Oldest {
    #[track_caller]
    fn of(report: &Report, role: &str, port: u16, state: &str) -> Self {
        let of_oldest = |name| column(report, role, port, &format!("oldest.{state}.{name}"));
        let end = time(&report.interval()["end"]);
        Self {
            since: end - micros(&of_oldest("age_us")),
            at_least: of_oldest("at_least"),
            owner: of_oldest("owner"),
            pid: of_oldest("pid"),
            count: column(report, role, port, &format!("states.{state}")),
        }
    }
}

/// The client shuts down its side.
fn shut_down(client: &TcpStream) {
    client.shutdown(Shutdown::Write).expect("shutdown");
    wait_for_state(client, TcpState::FinWait2);
}

#[test]
fn the_oldest_connection_of_a_state_has_its_owner() {
    let _lab = lab::enter();
    let [leak, half_closed, unacknowledged, unanswered] = [9241, 9242, 9243, 9244];
    let far = |port| SocketAddr::from((Wire::FAR4, port));
    let (report, (times, leaky, _kept)) = lab::conclusive(|| {
        let wire = Wire::new();
        let mut server = Actor::start(&wire.far, None, "leaky");
        let synfin = watch(&[&wire.near, &wire.far], &[]);
        server.listen(far(leak));
        let [listener, other] =
            [half_closed, unacknowledged].map(|port| wire.far.listen(far(port)));
        wire.far.filter("unanswered", &format!("tcp dport {unanswered} counter drop"));

        // One of each kind, and later another.
        let leaks = || wire.near.connect(far(leak)).expect("a connection");
        let leaking = [leaks(), leaks()];
        let waiting = [(); 2].map(|()| wire.near.pair_with(&listener, far(half_closed)));
        let silent = [(); 2].map(|()| wire.near.pair_with(&other, far(unacknowledged)));
        for pair in &silent {
            shut_down(&pair.client);
            wait_for_state(&pair.server, TcpState::CloseWait);
        }
        // The servers' FINs arrive, but their ACKs do not.
        wire.far.filter("silent", &format!("tcp dport {unacknowledged} counter drop"));
        let attempts = [0, 1].map(|number| {
            let attempt = timed(|| {
                let begun = wire.near.begin_connect(far(unanswered));
                (begun, [&leaking[number], &waiting[number].client].map(shut_down))
            });
            silent[number].server.shutdown(Shutdown::Write).expect("shutdown");
            wait_for_state(&silent[number].server, TcpState::LastAck);
            let ((attempt, _), (from, _)) = attempt;
            let times = (from, SystemTime::now());
            if number == 0 {
                thread::sleep(apart());
            }
            (attempt, times)
        });
        let times = attempts[0].1;
        // The application's close() does not restart the age.
        waiting[0].client.shutdown(Shutdown::Both).expect("shutdown");
        eventually_equal("leaks", 2, || count(&wire.far, "CLOSE-WAIT", leak));

        let leaky = server.pid();
        let report = synfin.finish().report();
        (
            report,
            (times, leaky, (wire, server, listener, other, leaking, waiting, silent, attempts)),
        )
    });
    let expected = [
        ("server", leak, "close_wait", 2, leaky),
        ("client", half_closed, "fin_wait2", 2, process::id()),
        ("server", unacknowledged, "last_ack", 2, process::id()),
        ("client", unanswered, "syn_sent", 2, process::id()),
    ];
    for (role, port, state, number, pid) in expected {
        let oldest = Oldest::of(&report, role, port, state);
        check_within(state, oldest.since, times);
        assert_eq!((oldest.count, oldest.pid), (json!(number), json!(pid)), "{state}");
        assert_eq!(oldest.at_least, false, "{state}");
        if state == "close_wait" {
            assert_eq!(oldest.owner, "leaky");
        }
    }
    // No other states are occupied.
    for state in ["fin_wait2", "last_ack", "syn_sent"] {
        let age = column(&report, "server", leak, &format!("oldest.{state}.age_us"));
        assert!(age.is_null(), "{state}: {age}");
    }
}

#[test]
fn the_age_of_a_state_entered_before_the_trace_is_a_minimum() {
    let _lab = lab::enter();
    let at = SocketAddr::from((Wire::FAR4, 9251));
    let begun = SystemTime::now();
    let wire = Wire::new();
    let mut server = Actor::start(&wire.far, None, "old-leak");
    server.listen(at);
    let client = wire.near.connect(at).expect("a connection");
    client.shutdown(Shutdown::Write).expect("shutdown");
    eventually_equal("leaks", 1, || count(&wire.far, "CLOSE-WAIT", at.port()));
    let synfin = watch(&[&wire.far], &[]);
    let watching = SystemTime::now();
    thread::sleep(apart());
    let report = synfin.finish().report();
    let oldest = Oldest::of(&report, "server", at.port(), "close_wait");
    check_within("the last segment or the first scan", oldest.since, (begun, watching));
    assert_eq!([oldest.at_least, oldest.count], [json!(true), json!(1)]);
    assert_eq!([oldest.owner, oldest.pid], [json!("old-leak"), json!(server.pid())]);
}
