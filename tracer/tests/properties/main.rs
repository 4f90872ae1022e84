//! What holds for the tracker whatever it is given: plausible traces, traces with losses, and
//! anything at all; where the kernel shows all that any does, and where it has tracepoints only.
//! `PROPTEST_CASES` sets how many of each are tried.

mod books;
mod coverage;
mod filtered;
mod mangle;
mod remains;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use books::Books;
use mangle::{Mangle, mangle, wild_input};
use proptest::{collection::vec, prelude::*, sample::Index};
use synfin::{
    tcp::{
        close_reason::CloseReason,
        coverage::{Coverage, OptionalHook},
        group_by::By,
        role::Role,
    },
    trace::{
        decode::decode,
        event::Input,
        ids::{NetnsId, SockId},
        recording::Frame,
        scan::ScanBegin,
    },
    tracker::{Limits, Tracker},
};
use synfin_common::{event::Kind, state::TcpState};
use world::{Act, NAMESPACES, SECOND, START, World, act, lossless_act};

/// As many cases as the environment says, or `default`.
fn cases(default: u32) -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig { cases: default, ..config },
    }
}

/// Input that was plausible once, and places to cut.
#[derive(Clone, Debug)]
struct Mangled {
    before: Vec<Act>,
    acts: Vec<Act>,
    mangles: Vec<Mangle>,
    cuts: Vec<Index>,
    shows_all: bool,
}

fn mangled() -> impl Strategy<Value = Mangled> {
    let before = vec(lossless_act(), 0..20);
    (before, vec(act(), 0..150), vec(mangle(), 0..12), vec(any::<Index>(), 0..6), any::<bool>())
        .prop_map(|(before, acts, mangles, cuts, shows_all)| Mangled {
            before,
            acts,
            mangles,
            cuts,
            shows_all,
        })
}

impl Mangled {
    fn inputs(&self) -> Vec<Input> {
        let mut world = World::after(&self.before, self.shows_all);
        self.acts.iter().for_each(|act| world.happens(act));
        let mut inputs = world.told();
        self.mangles.iter().for_each(|mangle| mangle.apply(&mut inputs));
        inputs
    }

    /// The books of a tracker that was given all of it, and cut here and there and at the end.
    fn audited(&self, limits: Limits) -> Books {
        let inputs = self.inputs();
        let mut cuts: Vec<_> = self.cuts.iter().map(|cut| cut.index(inputs.len() + 1)).collect();
        cuts.sort();
        let mut books = Books::new(limits, coverage(self.shows_all), START);
        let mut done = 0;
        for cut in cuts {
            inputs[done..cut].iter().for_each(|input| books.take(input));
            done = cut;
            books.cut();
        }
        inputs[done..].iter().for_each(|input| books.take(input));
        books.finish();
        books
    }
}

/// As long as a record of some kind, which its first bytes may name; zeros and anything else.
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

/// All that any kernel shows, or what all do.
fn coverage(shows_all: bool) -> Coverage {
    if shows_all {
        Coverage::of(&OptionalHook::ALL.map(OptionalHook::name))
    } else {
        Coverage::default()
    }
}

/// From none to more than is needed.
fn limits() -> impl Strategy<Value = Limits> {
    let most = |default| prop::sample::select(vec![0, 1, 4, 8, default]);
    let Limits { connections, rows } = Limits::default();
    (most(connections), most(rows)).prop_map(|(connections, rows)| Limits { connections, rows })
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn books_always_balance(mangled in mangled(), limits in limits()) {
        mangled.audited(limits);
    }

    #[test]
    fn books_balance_whatever_is_said(
        inputs in vec(wild_input(), 0..60),
        limits in limits(),
        shows_all in any::<bool>(),
    ) {
        let mut books = Books::new(limits, coverage(shows_all), START);
        for input in &inputs {
            books.take(input);
            books.cut();
        }
    }

    #[test]
    fn books_balance_over_any_bytes(
        frames in vec((any::<bool>(), vec(bytes_of_a_record(), 0..6)), 0..8),
        limits in limits(),
        shows_all in any::<bool>(),
    ) {
        let mut books = Books::new(limits, coverage(shows_all), START);
        for (is_walk, records) in frames {
            let frame = if is_walk {
                books.take(&Input::ScanBegin(ScanBegin { netns: 0, time: START }));
                Frame::Scanned(records.concat().into())
            } else {
                let sized = |record: &Vec<u8>| {
                    [&(record.len() as u32).to_le_bytes(), &record[..]].concat()
                };
                Frame::Events(records.iter().flat_map(sized).collect())
            };
            decode(&frame, |input| books.take(&input));
            books.cut();
        }
    }

    #[test]
    fn intervals_add_up(mangled in mangled(), limits in limits()) {
        let parts = mangled.audited(limits);
        let whole = Mangled { cuts: Vec::new(), ..mangled }.audited(limits);
        prop_assert_eq!(parts.totals(), whole.totals());
        prop_assert!(parts.living().keys().eq(whole.living().keys()));
    }

    #[test]
    fn equal_input_gives_equal_figures(mangled in mangled(), limits in limits()) {
        prop_assert_eq!(mangled.audited(limits).reports, mangled.audited(limits).reports);
    }

    #[test]
    fn without_losses_nothing_is_missed(
        before in vec(lossless_act(), 0..30),
        acts in vec(lossless_act(), 0..200),
        shows_all in any::<bool>(),
    ) {
        let mut world = World::after(&before, shows_all);
        let mut books = Books::new(Limits::default(), world.coverage, START);
        let mut scanned = BTreeSet::new();
        for act in &acts {
            world.happens(act);
            for input in world.told() {
                let before = adopted(&books);
                books.take(&input);
                let newcomers: Vec<_> = adopted(&books).difference(&before).copied().collect();
                let expected = newcomers.iter().all(|(netns, _)| !scanned.contains(netns));
                prop_assert!(expected, "{newcomers:x?} are adopted by {input:?}");
                if let Input::ScanEnd(end) = input && end.error.is_none() {
                    scanned.insert(end.netns);
                }
            }
        }
        books.cut();
        settle(&mut world, &mut books);
        agree(&world, &mut books);
        prop_assert_eq!(books.tracker.events().gaps, 0);
        prop_assert_eq!(books.found_after_loss(), 0);
        prop_assert_eq!(books.ended(CloseReason::LostSight), 0);
        prop_assert_eq!(books.ended(CloseReason::ConnectLostSight), 0);
        let counted = |names: &[&str]| books.total(names);
        prop_assert_eq!(counted(&["attempts", "adopted"]), world.births, "births");
        prop_assert_eq!(counted(&["failed", "closed", "discarded"]), world.ends, "ends");
    }

    #[test]
    fn after_losses_walks_put_it_right(
        before in vec(lossless_act(), 0..30),
        acts in vec(act(), 0..200),
        cuts in vec(any::<Index>(), 0..4),
        rows in limits().prop_map(|limits| limits.rows),
        shows_all in any::<bool>(),
    ) {
        let mut world = World::after(&before, shows_all);
        let mut books = Books::new(Limits { rows, ..Limits::default() }, world.coverage, START);
        let cuts: Vec<_> = cuts.iter().map(|cut| cut.index(acts.len() + 1)).collect();
        for (place, act) in acts.iter().enumerate() {
            world.happens(act);
            world.told().iter().for_each(|input| books.take(input));
            if cuts.contains(&place) {
                books.cut();
            }
        }
        settle(&mut world, &mut books);
        agree(&world, &mut books);
    }
}

/// The living connections whose birth was not seen.
fn adopted(books: &Books) -> BTreeSet<(NetnsId, SockId)> {
    let lives = books.living().into_iter();
    let adopted = lives.filter(|(_, connection)| connection.is_adopted());
    adopted.map(|(sock, connection)| (connection.netns, sock)).collect()
}

/// Lets the world rest, and scans over it until the tracker wants no more.
fn settle(world: &mut World, books: &mut Books) {
    const ROUNDS: usize = 5;
    // What nobody counts or sees is found when a namespace is scanned for another reason.
    let walk_all = world.uncounted || world.unseen;
    let take = |world: &mut World, books: &mut Books| {
        world.told().iter().for_each(|input| books.take(input));
    };
    world.walk_is_over();
    for _ in 0..ROUNDS {
        world.happens(&Act::Wait(2 * SECOND));
        world.tick();
        take(world, books);
        for netns in NAMESPACES {
            if walk_all || books.tracker.wants_scan(netns) {
                world.is_walked(netns);
                take(world, books);
            }
        }
    }
    let wanted = |tracker: &Tracker| NAMESPACES.iter().any(|&netns| tracker.wants_scan(netns));
    assert!(!wanted(&books.tracker), "walks are wanted still after {ROUNDS} rounds");
}

/// What the books say must be so in the world.
fn agree(world: &World, books: &mut Books) {
    let known = books.living();
    let known: BTreeMap<_, _> = known
        .iter()
        .map(|(&sock, connection)| {
            (sock, (connection.netns, connection.state, connection.remote()))
        })
        .collect();
    let true_ones: BTreeMap<_, _> = world
        .connections()
        .map(|(sock, socket)| (sock, (socket.netns, socket.state, socket.remote)))
        .collect();
    assert_eq!(known, true_ones, "living connections: known, and in truth");

    let known: BTreeSet<_> = books
        .living()
        .into_iter()
        .filter(|(_, connection)| connection.role == Role::Client && !connection.role_assumed)
        .map(|(sock, _)| sock)
        .collect();
    let clients = world.connections().filter(|(_, socket)| socket.role == Role::Client);
    let clients: BTreeSet<_> = clients.map(|(sock, _)| sock).collect();
    assert!(known.is_subset(&clients), "clients: known {known:?}, in truth {clients:?}");

    let events = books.tracker.events();
    assert_eq!(events.in_flight(), 0, "{events:?}");

    let snapshot = books.cut();
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
