//! With all optional hooks, statistics are exact; without them, the same statistics are inferred.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};
use synfin::{
    tcp::{
        close_reason::CloseReason, coverage::Coverage, group_by::By, handshake::Handshake,
        role::Role,
    },
    trace::{event::Input, ids::NetnsId, time::Nanos},
    tracker::{Closed, Common, Counters, LatencyHistogram, Limits, Tracker},
};
use synfin_common::port_count::SynQueueEvent;
use synfin_testkit::{SECOND, Tracked};

use super::{
    cases,
    world::{Act, NAMESPACES, START, World, lossless_act},
};

/// A tracker, and the sums of its statistics.
struct CountingTracker {
    tracked: Tracked,
    sums: Sums,
}

/// Over all rows and snapshots.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sums {
    entered: u64,
    overflowed: u64,
    /// Server connections that began, and those that SYN queues are still to give.
    asked: u64,
    syn_queue: BTreeMap<SynQueueEvent, u64>,
    waits: Vec<(u64, u64)>,
}

/// TIME_WAITs and orphans in FIN_WAIT2 of each row that has any.
type TimeWaitCounts = BTreeMap<(Role, u16), (u64, u64)>;

impl CountingTracker {
    fn new(coverage: Coverage) -> Self {
        let tracker = Tracker::new(Limits::default(), START).with_coverage(coverage);
        Self { tracked: Tracked::new(tracker), sums: Sums::default() }
    }

    fn take(&mut self, inputs: &[Input]) {
        inputs.iter().for_each(|input| self.tracked.apply(input));
    }

    /// Takes a snapshot.
    fn snapshot(&mut self) -> TimeWaitCounts {
        let mut time_wait_counts = TimeWaitCounts::new();
        for row in self.tracked.tracker.take_snapshot().rows(By::Port) {
            let now = (row.stats.time_wait_now, row.stats.scanned.fin_wait2_orphans);
            let port = match row.identity.port {
                Common::One(port) => port,
                // Connections whose beginning was not reported can be of unknown role.
                Common::Unknown | Common::Several(_) => 0,
            };
            if now != (0, 0) {
                time_wait_counts.insert((row.identity.role, port), now);
            }
            self.sums.add(row.identity.role, &row.stats.counters);
        }
        time_wait_counts
    }
}

impl Sums {
    fn add(&mut self, role: Role, counters: &Counters) {
        self.entered += counters.time_wait_entered;
        self.overflowed += counters.time_wait_overflowed;
        for what in SynQueueEvent::ALL {
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

    /// Handshakes that reached servers.
    fn attempts(&self) -> u64 {
        let count = |what| self.syn_queue.get(&what).copied().unwrap_or(0);
        self.asked + count(SynQueueEvent::Entered) - count(SynQueueEvent::Completed)
    }
}

/// Adds the buckets of both.
fn buckets(sum: &[(u64, u64)], more: &LatencyHistogram) -> Vec<(u64, u64)> {
    let mut buckets: BTreeMap<u64, u64> = sum.iter().copied().collect();
    for (bound, count) in more.buckets() {
        *buckets.entry(bound).or_default() += count;
    }
    buckets.into_iter().collect()
}

/// The true counts in the model, of sockets that were reported.
fn time_wait_counts(world: &World) -> TimeWaitCounts {
    let mut time_wait_counts = TimeWaitCounts::new();
    for time_wait in world.time_waits().iter().filter(|time_wait| time_wait.is_known) {
        let port =
            time_wait.socket.role.service_port(time_wait.socket.local, time_wait.socket.remote);
        let (time_waits, orphans) =
            time_wait_counts.entry((time_wait.socket.role, port)).or_default();
        *(if time_wait.is_orphan() { orphans } else { time_waits }) += 1;
    }
    time_wait_counts
}

fn sum(time_wait_counts: &TimeWaitCounts) -> (u64, u64) {
    time_wait_counts.values().fold((0, 0), |sum, now| (sum.0 + now.0, sum.1 + now.1))
}

/// The part of a closed connection that does not depend on coverage.
type Close = (Nanos, NetnsId, Role, String, CloseReason, Option<Handshake>);

fn closes(counted: &CountingTracker) -> Vec<(Close, Option<bool>)> {
    let close = |closed: &Closed| {
        let &Closed { closed: time, netns, role, local, remote, reason, handshake, .. } = closed;
        ((time, netns, role, format!("{local} {remote}"), reason, handshake), closed.time_wait)
    };
    let mut closes: Vec<_> = counted.tracked.closed.iter().map(close).collect();
    // Some closes are pending until others follow.
    closes.sort_by_key(|((time, netns, _, name, ..), _)| (*time, *netns, name.clone()));
    closes
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn with_all_hooks_time_waits_are_exact_at_every_moment(
        before in prop_oneof![Just(Vec::new()), vec(lossless_act(), 0..30)],
        acts in vec(lossless_act(), 0..200),
    ) {
        let mut world = World::after(&before, true);
        let mut counted = CountingTracker::new(world.coverage);
        for (place, act) in acts.iter().enumerate() {
            world.perform(act);
            counted.take(&world.reported());
            let (known, truth) = (counted.snapshot(), time_wait_counts(&world));
            // Records of older connections wait for the first scan.
            if counted.tracked.tracker.held_records() > 0 {
                continue;
            }
            // The row of TIME_WAITs from before the trace may be unknown.
            prop_assert_eq!(sum(&known), sum(&truth), "after {} and {:?}", place, act);
            if before.is_empty() {
                prop_assert_eq!(known, truth, "after {} and {:?}", place, act);
            }
        }
        world.tick();
        world.perform(&Act::Wait(SECOND));
        counted.take(&world.reported());
        counted.tracked.finish();
        counted.snapshot();
        prop_assert_eq!(counted.sums.entered, world.entered);
        prop_assert_eq!(counted.sums.overflowed, world.overflowed);
        prop_assert_eq!(&counted.sums.syn_queue, &world.in_syn_queue);
        prop_assert_eq!(&counted.sums.waits, &buckets(&[], &world.waits));
        if before.is_empty() {
            prop_assert_eq!(counted.sums.attempts(), world.asked);
        }
        prop_assert!(counted.tracked.closed.iter().all(|closed| closed.time_wait.is_some()));
    }

    #[test]
    fn without_optional_hooks_statistics_are_inferred(
        before in vec(lossless_act(), 0..30),
        acts in vec(lossless_act(), 0..200),
    ) {
        let mut world = World::after(&before, true);
        let (mut exact, mut inferred) = (CountingTracker::new(world.coverage), CountingTracker::new(Coverage::default()));
        acts.iter().for_each(|act| world.perform(act));
        world.end_scan();
        world.perform(&Act::Wait(2 * SECOND));
        world.tick();
        NAMESPACES.iter().for_each(|&netns| world.scan_completely(netns));
        let inputs = world.reported();
        for counted in [&mut exact, &mut inferred] {
            counted.take(&inputs);
            counted.tracked.finish();
        }

        let [of_exact, of_inferred] = [&exact, &inferred].map(closes);
        prop_assert_eq!(of_exact.len(), of_inferred.len());
        for ((exact, left), (inferred, may_have_left)) in of_exact.into_iter().zip(of_inferred) {
            prop_assert_eq!(&exact, &inferred);
            prop_assert!(may_have_left.is_none_or(|it| Some(it) == left), "{:?}", exact);
        }
        let (now, by_age) = (sum(&exact.snapshot()), sum(&inferred.snapshot()));
        prop_assert_eq!(now, sum(&time_wait_counts(&world)));
        let (possible, found) = (world.time_waits_by_age(), (by_age.0 + by_age.1) as usize);
        prop_assert!(possible.contains(&found), "{} in TIME_WAIT, not {:?}", found, possible);
        if world.unconfirmed == 0 {
            let sums = [&exact, &inferred].map(|counted| (counted.sums.entered, counted.sums.overflowed));
            prop_assert_eq!(sums[0], sums[1]);
        }
    }
}
