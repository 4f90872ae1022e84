//! Where the kernel shows all that any does: what is then exact, and that it is what is inferred
//! elsewhere.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};
use synfin::{
    tcp::{
        close_reason::CloseReason, coverage::Coverage, group_by::By, handshake::Handshake,
        role::Role,
    },
    trace::{event::Input, ids::NetnsId, time::Nanos},
    tracker::{Change, ChangeKinds, Closed, Common, Counters, LatencyHistogram, Limits, Tracker},
};
use synfin_common::port_count::SynQueue;

use crate::{
    cases,
    world::{Act, NAMESPACES, SECOND, START, World, lossless_act},
};

/// A tracker, and what it said and counted.
struct Told {
    tracker: Tracker,
    ends: Vec<Closed>,
    sums: Sums,
}

/// Over all rows and cuts.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sums {
    entered: u64,
    overflowed: u64,
    /// Births at servers, and those that are to come of handshakes in their SYN queues.
    asked: u64,
    syn_queue: BTreeMap<SynQueue, u64>,
    waits: Vec<(u64, u64)>,
}

/// TIME_WAITs and orphans in FIN_WAIT2, in rows that have either.
type Remaining = BTreeMap<(Role, u16), (u64, u64)>;

impl Told {
    fn new(coverage: Coverage) -> Self {
        let tracker = Tracker::new(Limits::default(), START)
            .with_changes(ChangeKinds::CLOSED)
            .with_coverage(coverage);
        Self { tracker, ends: Vec::new(), sums: Sums::default() }
    }

    fn hears(&mut self, inputs: &[Input]) {
        inputs.iter().for_each(|input| self.tracker.apply(input));
        self.take_changes();
    }

    fn finish(&mut self) {
        self.tracker.finish();
        self.take_changes();
    }

    fn take_changes(&mut self) {
        self.ends.extend(self.tracker.drain_changes().filter_map(|change| match change {
            Change::Closed(closed) => Some(closed),
            _ => None,
        }));
    }

    fn cut(&mut self) -> Remaining {
        let mut remaining = Remaining::new();
        for row in self.tracker.take_snapshot().rows(By::Port) {
            let now = (row.stats.time_wait_now, row.stats.scanned.fin_wait2_orphans);
            if let Common::One(port) = row.identity.port
                && now != (0, 0)
            {
                remaining.insert((row.identity.role, port), now);
            }
            self.sums.add(row.identity.role, &row.stats.counters);
        }
        remaining
    }
}

impl Sums {
    fn add(&mut self, role: Role, counters: &Counters) {
        self.entered += counters.time_wait_entered;
        self.overflowed += counters.time_wait_overflowed;
        for what in SynQueue::ALL {
            let count = counters.syn_queue(what);
            if count > 0 {
                *self.syn_queue.entry(what).or_default() += count;
            }
        }
        if role == Role::Server {
            self.asked += counters.attempts;
        }
        self.waits = buckets(&self.waits, &counters.accept_wait);
    }

    /// Handshakes that came to servers.
    fn attempts(&self) -> u64 {
        let count = |what| self.syn_queue.get(&what).copied().unwrap_or(0);
        self.asked + count(SynQueue::Entered) - count(SynQueue::Completed)
    }
}

/// The sum of both.
fn buckets(sum: &[(u64, u64)], more: &LatencyHistogram) -> Vec<(u64, u64)> {
    let mut buckets: BTreeMap<u64, u64> = sum.iter().copied().collect();
    for (bound, count) in more.buckets() {
        *buckets.entry(bound).or_default() += count;
    }
    buckets.into_iter().collect()
}

/// What there is in truth, of which anything was told.
fn remaining(world: &World) -> Remaining {
    let mut remaining = Remaining::new();
    for time_wait in world.time_waits().iter().filter(|time_wait| time_wait.is_known) {
        let port = time_wait.role.service_port(time_wait.local, time_wait.remote);
        let (time_waits, orphans) = remaining.entry((time_wait.role, port)).or_default();
        *(if time_wait.is_orphan() { orphans } else { time_waits }) += 1;
    }
    remaining
}

fn sum(remaining: &Remaining) -> (u64, u64) {
    remaining.values().fold((0, 0), |sum, now| (sum.0 + now.0, sum.1 + now.1))
}

/// What is the same of a connection's end however it is known.
type End = (Nanos, NetnsId, Role, String, CloseReason, Option<Handshake>);

fn ends(told: &Told) -> Vec<(End, Option<bool>)> {
    let end = |closed: &Closed| {
        let &Closed { closed: time, netns, role, local, remote, reason, handshake, .. } = closed;
        ((time, netns, role, format!("{local} {remote}"), reason, handshake), closed.time_wait)
    };
    let mut ends: Vec<_> = told.ends.iter().map(end).collect();
    // Some are held for a moment, until others have ended.
    ends.sort_by_key(|((time, netns, _, name, ..), _)| (*time, *netns, name.clone()));
    ends
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn what_the_kernel_shows_is_exact_at_every_moment(
        before in prop_oneof![Just(Vec::new()), vec(lossless_act(), 0..30)],
        acts in vec(lossless_act(), 0..200),
    ) {
        let mut world = World::after(&before, true);
        let mut told = Told::new(world.coverage);
        for (place, act) in acts.iter().enumerate() {
            world.happens(act);
            told.hears(&world.told());
            let (known, truth) = (told.cut(), remaining(&world));
            // Whose those are that were there before may not be known.
            prop_assert_eq!(sum(&known), sum(&truth), "after {} and {:?}", place, act);
            if before.is_empty() {
                prop_assert_eq!(known, truth, "after {} and {:?}", place, act);
            }
        }
        world.tick();
        world.happens(&Act::Wait(SECOND));
        told.hears(&world.told());
        told.finish();
        told.cut();
        prop_assert_eq!(told.sums.entered, world.entered);
        prop_assert_eq!(told.sums.overflowed, world.overflowed);
        prop_assert_eq!(&told.sums.syn_queue, &world.in_syn_queue);
        prop_assert_eq!(&told.sums.waits, &buckets(&[], &world.waits));
        if before.is_empty() {
            prop_assert_eq!(told.sums.attempts(), world.asked);
        }
        prop_assert!(told.ends.iter().all(|closed| closed.time_wait.is_some()));
    }

    #[test]
    fn what_the_kernel_does_not_show_is_inferred(
        before in vec(lossless_act(), 0..30),
        acts in vec(lossless_act(), 0..200),
    ) {
        let mut world = World::after(&before, true);
        let (mut exact, mut inferred) = (Told::new(world.coverage), Told::new(Coverage::default()));
        acts.iter().for_each(|act| world.happens(act));
        world.walk_is_over();
        world.happens(&Act::Wait(2 * SECOND));
        world.tick();
        NAMESPACES.iter().for_each(|&netns| world.is_walked(netns));
        let inputs = world.told();
        for told in [&mut exact, &mut inferred] {
            told.hears(&inputs);
            told.finish();
        }

        let [of_exact, of_inferred] = [&exact, &inferred].map(ends);
        prop_assert_eq!(of_exact.len(), of_inferred.len());
        for ((exact, left), (inferred, may_have_left)) in of_exact.into_iter().zip(of_inferred) {
            prop_assert_eq!(&exact, &inferred);
            prop_assert!(may_have_left.is_none_or(|it| Some(it) == left), "{:?}", exact);
        }
        let (now, by_age) = (sum(&exact.cut()), sum(&inferred.cut()));
        prop_assert_eq!(now, sum(&remaining(&world)));
        let (possible, found) = (world.time_waits_by_age(), (by_age.0 + by_age.1) as usize);
        prop_assert!(possible.contains(&found), "{} in TIME_WAIT, not {:?}", found, possible);
        if world.unconfirmed == 0 {
            let sums = [&exact, &inferred].map(|told| (told.sums.entered, told.sums.overflowed));
            prop_assert_eq!(sums[0], sums[1]);
        }
        prop_assert_eq!(inferred.sums.waits, []);
    }
}
