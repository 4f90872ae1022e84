//! Properties of the tracker for plausible traces, traces with losses, and arbitrary input, with
//! all optional hooks and with tracepoints only. `PROPTEST_CASES` sets the number of cases.

mod coverage;
mod filters;
mod mangle;
mod time_wait;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mangle::{Mangle, mangle, record_again, wild_input};
use proptest::{collection::vec, prelude::*, sample::Index};
use synfin::{
    analysis::compare::Side,
    output::report::{Report, RowSelection},
    tcp::{close_reason::CloseReason, coverage::OptionalHook, group_by::By, role::Role},
    trace::{
        decode::decode,
        event::Input,
        ids::{NetnsId, SockId},
        recording::Frame,
        scan::ScanBegin,
        session::Session,
    },
    tracker::{Limits, Tracker},
};
use synfin_common::{event::Kind, state::TcpState};
use synfin_testkit::{AuditedTracker, SECOND, encode};
use world::{Act, NAMESPACES, START, World, act, coverage, lossless_act};

/// The number of cases from the environment, or `default`.
fn cases(default: u32) -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig { cases: default, ..config },
    }
}

/// A trace with faults, and when to take snapshots.
#[derive(Clone, Debug)]
struct Mangled {
    before: Vec<Act>,
    acts: Vec<Act>,
    mangles: Vec<Mangle>,
    snapshots: Vec<Index>,
    has_all_hooks: bool,
}

fn mangled() -> impl Strategy<Value = Mangled> {
    let before = vec(lossless_act(), 0..20);
    (before, vec(act(), 0..150), vec(mangle(), 0..12), vec(any::<Index>(), 0..6), any::<bool>())
        .prop_map(|(before, acts, mangles, snapshots, has_all_hooks)| Mangled {
            before,
            acts,
            mangles,
            snapshots,
            has_all_hooks,
        })
}

impl Mangled {
    fn inputs(&self) -> Vec<Input> {
        let mut world = World::after(&self.before, self.has_all_hooks);
        self.acts.iter().for_each(|act| world.perform(act));
        let mut inputs = world.reported();
        self.mangles.iter().for_each(|mangle| mangle.apply(&mut inputs));
        inputs
    }

    /// A tracker that has applied all of it, with snapshots in between and at the end.
    fn audited(&self, limits: Limits) -> AuditedTracker {
        let inputs = self.inputs();
        let mut snapshots: Vec<_> =
            self.snapshots.iter().map(|place| place.index(inputs.len() + 1)).collect();
        snapshots.sort_unstable();
        let mut audited = AuditedTracker::new(limits, coverage(self.has_all_hooks), START);
        let mut done = 0;
        for place in snapshots {
            inputs[done..place].iter().for_each(|input| audited.take(input));
            done = place;
            audited.snapshot();
        }
        inputs[done..].iter().for_each(|input| audited.take(input));
        audited.finish();
        audited
    }
}

/// Bytes of a record's length, whose first ones may name a kind, or arbitrary bytes.
fn bytes_of_a_record() -> impl Strategy<Value = Vec<u8>> {
    let len = prop::sample::select(vec![24usize, 48, 80, 96, 104, 112]);
    let byte = prop_oneof![Just(0), any::<u8>()];
    (len, 0..Kind::COUNT as u8, 0..14u8, 0..14u8).prop_flat_map(move |(len, kind, old, new)| {
        vec(byte.clone(), len).prop_map(move |mut bytes| {
            bytes[..3].copy_from_slice(&[kind, old, new]);
            bytes
        })
    })
}

/// From 0 to more than needed.
fn limits() -> impl Strategy<Value = Limits> {
    let most = |default| prop::sample::select(vec![0, 1, 4, 8, default]);
    let Limits { connections, rows } = Limits::default();
    (most(connections), most(rows)).prop_map(|(connections, rows)| Limits { connections, rows })
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn row_statistics_balance_on_mangled_traces(mangled in mangled(), limits in limits()) {
        mangled.audited(limits);
    }

    #[test]
    fn row_statistics_balance_on_any_input(
        inputs in vec(wild_input(), 0..60),
        limits in limits(),
        has_all_hooks in any::<bool>(),
    ) {
        let mut audited = AuditedTracker::new(limits, coverage(has_all_hooks), START);
        for input in &inputs {
            audited.take(input);
            audited.snapshot();
        }
    }

    #[test]
    fn row_statistics_balance_on_any_bytes(
        frames in vec((any::<bool>(), vec(bytes_of_a_record(), 0..6)), 0..8),
        limits in limits(),
        has_all_hooks in any::<bool>(),
    ) {
        let mut audited = AuditedTracker::new(limits, coverage(has_all_hooks), START);
        for (is_scan, records) in frames {
            let frame = if is_scan {
                audited.take(&Input::ScanBegin(ScanBegin { netns: 0, time: START }));
                Frame::Scanned(records.concat().into())
            } else {
                let sized = |record: &Vec<u8>| encode::sized(record);
                Frame::Events(records.iter().flat_map(sized).collect())
            };
            decode(&frame, |input| audited.take(&input));
            audited.snapshot();
        }
    }

    #[test]
    fn intervals_add_up_to_the_whole(mangled in mangled(), limits in limits()) {
        let parts = mangled.audited(limits);
        let whole = Mangled { snapshots: Vec::new(), ..mangled }.audited(limits);
        prop_assert_eq!(parts.totals(), whole.totals());
        prop_assert!(parts.open().keys().eq(whole.open().keys()));
    }

    #[test]
    fn compare_reads_a_snapshot_as_it_reads_the_report_of_it(
        mangled in mangled(),
        limits in limits(),
    ) {
        let whole = mangled.audited(limits).whole;
        let session = Arc::new(Session {
            kernel: "6.18.1".into(),
            coverage: coverage(mangled.has_all_hooks),
            sysctls: BTreeMap::from([("net.core.somaxconn".into(), "4096".into())]),
            ..Session::default()
        });
        for by in [By::Port, By::Remote, By::Owner, By::Netns] {
            let rows = RowSelection { by, ..RowSelection::default() };
            let report = Report::new(&session, &whole, &rows).object();
            let read = Side::of_lines(&serde_json::Value::from(report).to_string());
            prop_assert_eq!(Side::of(&session, &whole, &rows), read.expect("a report"));
        }
    }

    #[test]
    fn equal_input_gives_equal_reports(mangled in mangled(), limits in limits()) {
        prop_assert_eq!(mangled.audited(limits).reports, mangled.audited(limits).reports);
    }

    #[test]
    fn records_of_both_programs_of_the_main_hook_count_once(
        before in vec(lossless_act(), 0..20),
        acts in vec(lossless_act(), 0..150),
        again in vec((any::<Index>(), 0..20usize), 0..20),
        has_all_hooks in any::<bool>(),
    ) {
        let mut world = World::after(&before, has_all_hooks);
        acts.iter().for_each(|act| world.perform(act));
        world.tick();
        let once = world.reported();
        let mut twice = once.clone();
        again.iter().for_each(|(which, later)| record_again(&mut twice, which, *later));
        let [once, twice] = [once, twice].map(|inputs| {
            let mut audited = AuditedTracker::new(Limits::default(), world.coverage, START);
            inputs.iter().for_each(|input| audited.take(input));
            audited.finish();
            audited
        });
        prop_assert_eq!(once.totals(), twice.totals());
        prop_assert!(once.open().keys().eq(twice.open().keys()));
        let [once, twice] = [once, twice].map(|audited| audited.tracker.events());
        prop_assert_eq!((once.missed, once.gaps), (twice.missed, twice.gaps));
        prop_assert_eq!((once.recovered, twice.recovered), (0, 0));
    }

    #[test]
    fn without_losses_no_connection_is_missed(
        before in vec(lossless_act(), 0..30),
        acts in vec(lossless_act(), 0..200),
        has_all_hooks in any::<bool>(),
    ) {
        let mut world = World::after(&before, has_all_hooks);
        let mut audited = AuditedTracker::new(Limits::default(), world.coverage, START);
        let mut scanned = BTreeSet::new();
        for act in &acts {
            world.perform(act);
            for input in world.reported() {
                let before = adopted(&audited);
                audited.take(&input);
                let newcomers: Vec<_> = adopted(&audited).difference(&before).copied().collect();
                let expected = newcomers.iter().all(|(netns, _)| !scanned.contains(netns));
                prop_assert!(expected, "{newcomers:x?} are adopted by {input:?}");
                if let Input::ScanEnd(end) = input && end.error.is_none() {
                    scanned.insert(end.netns);
                }
            }
        }
        audited.snapshot();
        scan_until_complete(&mut world, &mut audited);
        agree(&world, &mut audited);
        prop_assert_eq!(audited.tracker.events().gaps, 0);
        prop_assert_eq!(audited.found_after_loss(), 0);
        prop_assert_eq!(audited.ended(CloseReason::LostSight), 0);
        prop_assert_eq!(audited.ended(CloseReason::ConnectLostSight), 0);
        let counted = |names: &[&str]| audited.total(names);
        prop_assert_eq!(counted(&["attempts", "adopted"]), world.begun, "begun");
        prop_assert_eq!(counted(&["failed", "closed", "discarded"]), world.ends, "ends");
    }

    #[test]
    fn scans_repair_what_losses_broke(
        before in vec(lossless_act(), 0..30),
        acts in vec(act(), 0..200),
        snapshots in vec(any::<Index>(), 0..4),
        rows in limits().prop_map(|limits| limits.rows),
        has_all_hooks in any::<bool>(),
    ) {
        let mut world = World::after(&before, has_all_hooks);
        let mut audited = AuditedTracker::new(Limits { rows, ..Limits::default() }, world.coverage, START);
        let snapshots: Vec<_> = snapshots.iter().map(|place| place.index(acts.len() + 1)).collect();
        for (place, act) in acts.iter().enumerate() {
            world.perform(act);
            world.reported().iter().for_each(|input| audited.take(input));
            if snapshots.contains(&place) {
                audited.snapshot();
            }
        }
        scan_until_complete(&mut world, &mut audited);
        agree(&world, &mut audited);
    }
}

/// The open connections whose first record was lost.
fn adopted(audited: &AuditedTracker) -> BTreeSet<(NetnsId, SockId)> {
    let open = audited.open().into_iter();
    let adopted = open.filter(|(_, connection)| connection.is_adopted());
    adopted.map(|(sock, connection)| (connection.netns, sock)).collect()
}

/// Stops all activity, and scans until the tracker wants no further scan.
fn scan_until_complete(world: &mut World, audited: &mut AuditedTracker) {
    const ROUNDS: usize = 5;
    let take = |world: &mut World, audited: &mut AuditedTracker| {
        world.reported().iter().for_each(|input| audited.take(input));
    };
    world.end_scan();
    for _ in 0..ROUNDS {
        world.perform(&Act::Wait(2 * SECOND));
        world.tick();
        take(world, audited);
        // A loss that no counter or contradiction shows is found by a scan for another reason.
        let scan_all = world.uncounted() || world.undetected;
        for netns in NAMESPACES {
            if scan_all || audited.tracker.wants_scan(netns) {
                world.scan_completely(netns);
                take(world, audited);
            }
        }
    }
    let wanted = |tracker: &Tracker| NAMESPACES.iter().any(|&netns| tracker.wants_scan(netns));
    assert!(!wanted(&audited.tracker), "scans are still wanted after {ROUNDS} rounds");
}

/// Checks the tracker's state against the model's.
fn agree(world: &World, audited: &mut AuditedTracker) {
    let known = audited.open();
    let known: BTreeMap<_, _> = known
        .iter()
        .map(|(&sock, connection)| {
            (sock, (connection.netns, connection.state, connection.remote()))
        })
        .collect();
    let true_ones: BTreeMap<_, _> = world
        .connections()
        .map(|(sock, socket)| (sock, (socket.socket.netns, socket.state, socket.socket.remote)))
        .collect();
    assert_eq!(known, true_ones, "open connections in the tracker and in the model");

    let known: BTreeSet<_> = audited
        .open()
        .into_iter()
        .filter(|(_, connection)| connection.role == Role::Client)
        .map(|(sock, _)| sock)
        .collect();
    let clients = world.connections().filter(|(_, socket)| socket.socket.role == Role::Client);
    let clients: BTreeSet<_> = clients.map(|(sock, _)| sock).collect();
    assert!(
        known.is_subset(&clients),
        "clients: {known:?} in the tracker, {clients:?} in the model"
    );

    let events = audited.tracker.events();
    assert_eq!(events.in_flight(), 0, "{events:?}");

    let snapshot = audited.snapshot();
    let sum = |count: fn(&synfin::tracker::RowSnapshot) -> u64| -> u64 {
        snapshot.rows(By::Port).iter().map(count).sum()
    };
    let states = world.connections().map(|(_, socket)| socket.state);
    let pending = states.filter(|state| matches!(state, TcpState::SynSent | TcpState::SynRecv));
    assert_eq!(sum(|row| row.stats.gauges.pending), pending.count() as u64, "pending");
    assert_eq!(sum(|row| row.stats.scanned.listeners), world.listeners() as u64, "listeners");
    let time_waits =
        sum(|row| row.stats.time_wait_now + row.stats.scanned.fin_wait2_orphans) as usize;
    let possible = match world.coverage.has(OptionalHook::TimeWait) {
        true => world.time_waits().len()..=world.time_waits().len(),
        false => world.time_waits_by_age(),
    };
    assert!(possible.contains(&time_waits), "{time_waits} sockets in TIME_WAIT, not {possible:?}");
}
