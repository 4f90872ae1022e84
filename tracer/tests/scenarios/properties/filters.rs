//! A filter admits all connections that match it, as if there were no others.

use std::{collections::BTreeSet, net::SocketAddr};

use proptest::{collection::vec, prelude::*, sample::select};
use synfin::{
    tcp::{close_reason::CloseReason, coverage::Coverage, handshake::Handshake, role::Role},
    trace::{
        event::Input,
        filter::{Facts, Family, Filter, KnownCgroup},
        ids::{NetnsId, SockId},
        time::Nanos,
    },
    tracker::{Closed, Connection, Limits, Owner, Tracker},
};
use synfin_testkit::{Tracked, is_record};

use super::{
    cases,
    world::{NAMESPACES, START, World, lossless_act},
};

/// A connection, open or closed, without the parts that a filter affects.
#[derive(Clone, Debug, PartialEq)]
struct ComparedConnection {
    netns: NetnsId,
    role: Role,
    local: SocketAddr,
    remote: SocketAddr,
    /// Clients only: the owner of a server's connection may change with its listeners before the
    /// connection is admitted.
    pid: Option<u32>,
    since: Nanos,
    closed: Option<(Nanos, CloseReason)>,
    handshake: Option<Handshake>,
}

/// Identifies a connection of unknown role. A filter can hold its records until a scan shows the
/// listener that proves the role.
type Endpoints = (NetnsId, SocketAddr, SocketAddr);

impl ComparedConnection {
    fn endpoints(&self) -> Endpoints {
        (self.netns, self.local, self.remote)
    }
}

fn closed(closed: &Closed) -> ComparedConnection {
    ComparedConnection {
        netns: closed.netns,
        role: closed.role,
        local: closed.local,
        remote: closed.remote,
        pid: client_pid(closed.role, closed.owner.as_deref()),
        since: closed.since,
        closed: Some((closed.closed, closed.reason)),
        handshake: closed.handshake,
    }
}

fn open((_, connection): (SockId, &Connection)) -> ComparedConnection {
    ComparedConnection {
        netns: connection.netns,
        role: connection.role,
        local: connection.local(),
        remote: connection.remote(),
        pid: client_pid(connection.role, connection.owner.as_deref()),
        since: connection.first_seen,
        closed: None,
        handshake: connection.handshake,
    }
}

fn client_pid(role: Role, owner: Option<&Owner>) -> Option<u32> {
    owner.filter(|_| role == Role::Client)?.pid
}

/// All connections that a tracker has: the closed ones in order, then the open ones.
fn shown(
    inputs: &[Input],
    coverage: Coverage,
    filters: Vec<Filter>,
) -> (Vec<ComparedConnection>, Tracker) {
    let tracker = Tracker::new(Limits::default(), START).with_coverage(coverage);
    let mut tracked = Tracked::new(tracker.with_filters(filters));
    for input in inputs {
        tracked.apply(input);
        let events = tracked.tracker.events();
        assert!(events.in_flight() >= 0, "{events:?}");
    }
    tracked.finish();
    let Tracked { tracker, closed: all, .. } = tracked;
    let mut shown: Vec<_> = all.iter().map(closed).collect();
    // Some closes are pending until others follow.
    shown.sort_by_key(|one| (one.closed.map(|(time, _)| time), one.local, one.remote, one.netns));
    let mut open: Vec<_> = tracker.open().map(open).collect();
    open.sort_by_key(|one| (one.since, one.local, one.remote, one.netns));
    shown.extend(open);
    (shown, tracker)
}

fn ports(
    list: &'static [&'static str],
) -> impl Strategy<Value = Vec<synfin::trace::filter::PortRange>> {
    let range = select(list).prop_map(|range| range.parse().expect("ports"));
    prop_oneof![3 => Just(Vec::new()), 1 => vec(range, 1..3)]
}

fn networks() -> impl Strategy<Value = Vec<synfin::trace::filter::Network>> {
    let net = select(&["192.0.2.0/24", "198.51.100.7", "::/0", "0.0.0.0/0", "192.0.2.80/32"][..]);
    prop_oneof![3 => Just(Vec::new()), 1 => vec(net.prop_map(|net| net.parse().expect("a network")), 1..3)]
}

fn filter() -> impl Strategy<Value = Filter> {
    let few =
        |list: &'static [u32]| prop_oneof![3 => Just(Vec::new()), 1 => vec(select(list), 1..3)];
    let sides = (
        ports(&["80", "443", "1-100"]),
        ports(&["80", "40000-40015"]),
        ports(&["443", "50000-50127"]),
        networks(),
        networks(),
    );
    let family =
        prop_oneof![4 => Just(None), 1 => Just(Some(Family::V4)), 1 => Just(Some(Family::V6))];
    let role =
        prop_oneof![4 => Just(None), 1 => Just(Some(Role::Client)), 1 => Just(Some(Role::Server))];
    (sides, few(&[1, 2]), few(&NAMESPACES), family, role).prop_map(
        |(sides, pids, namespaces, family, role)| {
            let (service_ports, local_ports, remote_ports, local, remote) = sides;
            // See `ComparedConnection::pid`.
            let role = if pids.is_empty() { role } else { Some(Role::Client) };
            Filter {
                pids,
                service_ports,
                local_ports,
                remote_ports,
                family,
                local,
                remote,
                namespaces,
                cgroup: None,
                role,
            }
        },
    )
}

fn matches(filter: &Filter, connection: &ComparedConnection) -> bool {
    let pids: Vec<_> = connection.pid.into_iter().collect();
    let mut local = connection.local;
    if connection.role == Role::Server && connection.remote.port() == 0 {
        // Its only record has its listener's endpoints.
        local.set_port(0);
    }
    let facts = Facts {
        netns: connection.netns,
        role: connection.role,
        local,
        remote: connection.remote,
        service_port: connection.role.service_port(connection.local, connection.remote),
        pids: &pids,
        all_pids: !pids.is_empty(),
        cgroup: KnownCgroup::Unknown,
    };
    filter.judge(&facts) == Some(true)
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn a_filter_admits_exactly_the_matching_connections(
        before in vec(lossless_act(), 0..20),
        acts in vec(lossless_act(), 0..200),
        filter in filter(),
        shows_all in any::<bool>(),
    ) {
        let mut world = World::after(&before, shows_all);
        acts.iter().for_each(|act| world.perform(act));
        let inputs = world.reported();
        let (all, _) = shown(&inputs, world.coverage, Vec::new());
        let unknown: Vec<_> = all.iter().filter(|it| it.role == Role::Unknown).collect();
        let unknown: BTreeSet<_> = unknown.into_iter().map(ComparedConnection::endpoints).collect();
        let compared = |connection: &ComparedConnection| !unknown.contains(&connection.endpoints());
        let mut expected = all;
        expected.retain(|connection| compared(connection) && matches(&filter, connection));
        let (mut found, tracker) = shown(&inputs, world.coverage, vec![filter]);
        found.retain(compared);
        prop_assert_eq!(found, expected);
        let events = tracker.events();
        prop_assert_eq!(events.gaps, 0);
        let given = inputs.iter().filter(|input| is_record(input));
        prop_assert_eq!(events.delivered + events.filtered, given.count() as u64);
    }

    #[test]
    fn two_filters_admit_what_both_match(
        acts in vec(lossless_act(), 0..150),
        filters in vec(filter(), 2),
        shows_all in any::<bool>(),
    ) {
        let mut world = World::after(&[], shows_all);
        acts.iter().for_each(|act| world.perform(act));
        let inputs = world.reported();
        let (one, _) = shown(&inputs, world.coverage, filters[..1].to_vec());
        let both: Vec<_> =
            one.into_iter().filter(|connection| matches(&filters[1], connection)).collect();
        prop_assert_eq!(shown(&inputs, world.coverage, filters).0, both);
    }
}
