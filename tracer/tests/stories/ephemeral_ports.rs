//! How far the ports toward a destination are used up, and when none will be left.

use std::net::SocketAddr;

use synfin::{
    tcp::{group_by::By, role::Role},
    trace::{
        event::{Input, Opening, Transition},
        scan::{EphemeralPorts, TimeWaitReuse},
    },
    tracker::Ephemeral,
};
use synfin_common::state::TcpState::{self, *};

use crate::story::{HERE, Sock, Story, at};

/// 100 ports.
fn hundred(reuse: TimeWaitReuse) -> EphemeralPorts {
    EphemeralPorts { first: 40_000, last: 40_099, reserved: 0, reuse, reuse_after_ms: 1000 }
}

impl Story {
    /// In which the namespaces give out ports like this.
    fn with_ports(ephemeral_ports: Option<EphemeralPorts>) -> Self {
        let mut story = Self::new();
        story.ephemeral_ports = ephemeral_ports;
        story.scan(HERE, &[]);
        story
    }

    /// A process of this name connects to a destination from the next port.
    fn connects(&mut self, owner: &str, to: SocketAddr, id: u64) -> Sock {
        let sock = Sock { remote: to, ..Sock::client(id, 40_000 + id as u16) };
        let opening = Opening { cgroup: 0, accept_queue: (0, 0), comm: owner.into() };
        let birth = self.transition(sock, (Close, SynSent));
        let birth = Transition { pid: Some(700), opening: Some(opening), ..birth };
        self.tell(Input::Transition(birth));
        self.goes(sock, (SynSent, Established));
        sock
    }

    fn closes(&mut self, sock: Sock) {
        for states in
            [(Established, FinWait1), (FinWait1, TcpState::Closing), (TcpState::Closing, Close)]
        {
            self.goes(sock, states);
        }
    }

    fn ephemeral(&mut self, by: By) -> Vec<Option<Ephemeral>> {
        let rows = self.tracker.take_snapshot().rows(by).into_iter();
        rows.filter(|row| row.identity.role == Role::Client)
            .map(|row| row.stats.ephemeral)
            .collect()
    }

    fn only_ephemeral(&mut self) -> Ephemeral {
        let [Some(found)] = self.ephemeral(By::Port)[..] else { panic!("not one row with ports") };
        found
    }
}

#[test]
fn ports_are_shared_by_all_who_connect_to_a_destination() {
    let to = at("192.0.2.80:443");
    let mut story = Story::with_ports(Some(hundred(TimeWaitReuse::Never)));
    for id in 0..40 {
        story.connects(if id % 2 == 0 { "one" } else { "other" }, to, id);
    }
    for id in 40..70 {
        let sock = story.connects("one", to, id);
        story.closes(sock);
    }
    let found = story.only_ephemeral();
    assert_eq!((found.remote, found.used, found.ports, found.share()), (to.ip(), 70, 100, 0.7));
    // Of each owner's row as well: a port that one has taken is none for the other.
    story.wait(1);
    let by_owner = story.ephemeral(By::Owner);
    assert_eq!(by_owner.len(), 2);
    assert!(
        by_owner.iter().all(|found| found.is_some_and(|found| found.used == 70)),
        "{by_owner:?}"
    );
}

#[test]
fn every_destination_has_all_ports_and_the_worst_is_shown() {
    let [one, other] = [at("192.0.2.80:443"), at("192.0.2.81:443")];
    let mut story = Story::with_ports(Some(hundred(TimeWaitReuse::Never)));
    for id in 0..10 {
        story.connects("one", one, id);
    }
    for id in 10..40 {
        story.connects("one", other, id);
    }
    // The same address and another port is another destination.
    for id in 40..90 {
        story.connects("one", at("192.0.2.80:80"), id);
    }
    let rows = story.tracker.take_snapshot().rows(By::Port);
    let found: Vec<_> =
        rows.iter().filter_map(|row| row.stats.ephemeral).map(|it| (it.remote, it.used)).collect();
    assert_eq!(found, [(one.ip(), 50), (other.ip(), 30)]);
    let mut by_remote: Vec<_> =
        story.ephemeral(By::Remote).into_iter().flatten().map(|it| it.used).collect();
    by_remote.sort_unstable();
    assert_eq!(by_remote, [10, 30, 50]);
}

#[test]
fn what_is_not_known_is_not_guessed() {
    let to = at("192.0.2.80:443");
    let mut story = Story::with_ports(None);
    story.connects("one", to, 1);
    assert_eq!(story.ephemeral(By::Port), [None]);
    // A later scan finds the settings; one that cannot does not forget them.
    story.ephemeral_ports = Some(hundred(TimeWaitReuse::Never));
    let sock = Sock { remote: to, ..Sock::client(1, 40_001) };
    story.scan(HERE, &[sock.met_in(Established)]);
    assert_eq!(story.only_ephemeral().used, 1);
    story.ephemeral_ports = None;
    story.scan(HERE, &[sock.met_in(Established)]);
    assert_eq!(story.only_ephemeral().ports, 100);
}

#[test]
fn servers_use_no_ephemeral_ports() {
    let mut story = Story::with_ports(Some(hundred(TimeWaitReuse::Never)));
    story.listens(Sock::listener(1, 80), "server");
    story.connection(Sock::child(2, 80), &[SynRecv, Established]);
    assert_eq!(story.row(Role::Server, 80).stats.ephemeral, None);
}

#[test]
fn attempts_take_ports_too_and_what_has_expired_does_not() {
    let to = at("192.0.2.80:443");
    let mut story = Story::with_ports(Some(hundred(TimeWaitReuse::Never)));
    let sock = story.connects("one", to, 0);
    story.closes(sock);
    for id in 1..4 {
        story.connection(Sock { remote: to, ..Sock::client(id, 40_000) }, &[SynSent]);
    }
    assert_eq!(story.only_ephemeral().used, 4);
    story.wait(70);
    assert_eq!(story.only_ephemeral().used, 3);
}

/// What is foreseen after `seconds` in each of which one connects and stays, and two connect and
/// close.
fn foreseen(reuse: TimeWaitReuse, seconds: u64) -> Ephemeral {
    let to = at("192.0.2.80:443");
    let mut story = Story::with_ports(Some(hundred(reuse)));
    story.rows();
    for second in 0..seconds {
        story.connects("one", to, 3 * second);
        for (owner, id) in [("one", 3 * second + 1), ("other", 3 * second + 2)] {
            let sock = story.connects(owner, to, id);
            story.closes(sock);
        }
        story.wait(1);
    }
    story.only_ephemeral()
}

#[test]
fn at_the_rate_of_the_interval_the_ports_will_be_used_up() {
    let found = foreseen(TimeWaitReuse::Never, 10);
    assert_eq!(found.used, 30);
    // 70 are left for three a second.
    let seconds = found.exhausted_in.expect("an end");
    assert!((23.0..=24.0).contains(&seconds), "{seconds}");
}

#[test]
fn where_time_waits_are_reused_only_the_living_use_ports_up() {
    let found = foreseen(TimeWaitReuse::Always, 10);
    assert_eq!(found.used, 30);
    // 10 live, and two TIME_WAITs are too young at any time: 88 are left for one a second.
    let seconds = found.exhausted_in.expect("an end");
    assert!((86.0..=90.0).contains(&seconds), "{seconds}");
}

#[test]
fn without_growth_there_is_no_end() {
    let to = at("192.0.2.80:443");
    let mut story = Story::with_ports(Some(hundred(TimeWaitReuse::Never)));
    for id in 0..50 {
        story.connects("one", to, id);
    }
    story.wait(10);
    assert!(story.only_ephemeral().exhausted_in.is_some(), "they grew within the interval");
    story.wait(10);
    let found = story.only_ephemeral();
    assert_eq!((found.used, found.exhausted_in), (50, None));
}

#[test]
fn all_are_taken_at_once() {
    let to = at("192.0.2.80:443");
    let mut story = Story::with_ports(Some(hundred(TimeWaitReuse::Never)));
    for id in 0..100 {
        story.connects("one", to, id);
    }
    story.wait(1);
    let found = story.only_ephemeral();
    assert_eq!((found.share(), found.exhausted_in), (1.0, Some(0.0)));
}

#[test]
fn every_address_of_ours_has_all_ports_however_it_became_known() {
    let to = at("192.0.2.80:443");
    let [one, other] = ["192.0.2.1:40001", "192.0.2.2:40001"].map(|local| Sock {
        local: at(local),
        remote: to,
        ..Sock::client(1, 40_001)
    });
    let other = Sock { id: 2, ..other };
    for preexisting in [false, true] {
        let mut story = Story::new();
        story.ephemeral_ports = Some(hundred(TimeWaitReuse::Never));
        let met = |sock: Sock| synfin::trace::scan::ScannedSocket {
            port_by_connect: Some(true),
            ..sock.met_in(Established)
        };
        if preexisting {
            story.scan(HERE, &[met(one), met(other)]);
        } else {
            story.scan(HERE, &[]);
            story.connection(one, &[SynSent, Established]);
            story.connection(other, &[SynSent, Established]);
        }
        let found = story.only_ephemeral();
        assert_eq!((found.used, found.ports), (2, 200), "preexisting: {preexisting}");
    }
}
