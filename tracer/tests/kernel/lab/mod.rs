//! The laboratory: namespaces to make connections in, the kernel's own figures about them, and
//! synfin to be measured against those.

mod actor;
mod books;
mod broken;
mod capture;
mod cgroup;
mod chart;
mod collector;
mod counters;
mod ftrace;
mod identities;
mod kernels;
mod link;
mod namespace;
mod pace;
mod peer;
mod picture;
mod process;
mod prometheus;
mod sockets;
mod synfin;
mod terminal;
mod timers;
mod tun;
mod witness;

use std::{
    fmt::Debug,
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread,
    time::{Duration, Instant},
};

pub(crate) use actor::Actor;
pub(crate) use books::{Books, Events, Report};
pub(crate) use broken::{BTF, Broken};
pub(crate) use capture::{Capture, Segment};
pub(crate) use cgroup::Cgroup;
pub(crate) use chart::{Chart, Line, charts};
pub(crate) use collector::{Collector, Pushed, lacks_collector};
pub(crate) use counters::Counters;
pub(crate) use identities::Seen;
pub(crate) use kernels::{
    Feature, counts_beginnings, has_own_machine, lacks, lacks_for_a_part, lacks_program, note,
    since, skip, time_waits_entered,
};
pub(crate) use link::{Link, Loss};
pub(crate) use namespace::{Name, Namespace, Wire};
pub(crate) use pace::{deadline, is_slow, scaled, slack, slowed};
pub(crate) use peer::{Conn, Peer, pause};
pub(crate) use picture::svg;
pub(crate) use process::{Busy, Process, Turn};
pub(crate) use prometheus::{Host, Prometheus, Series, lacks_prometheus, unix_now};
pub(crate) use sockets::{
    Pair, Sock, accept, connect_to, disconnect, reset, set_option, socket, wait_for_end,
    wait_for_state,
};
pub(crate) use synfin::{Finished, PROGRAM, Synfin};
pub(crate) use terminal::Terminal;
pub(crate) use timers::TimeWaitTimers;
pub(crate) use tun::Tun;
use witness::Witness;

/// Who works in the laboratory: any number of small tests at a time, or one that needs the whole
/// machine.
static ROOM: RwLock<()> = RwLock::new(());

/// Enters for a test that others do not disturb.
pub(crate) fn enter() -> RwLockReadGuard<'static, ()> {
    demand_root();
    // Another test's failure is not this one's.
    ROOM.read().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Enters for a test that nothing else may run beside.
pub(crate) fn enter_alone() -> RwLockWriteGuard<'static, ()> {
    demand_root();
    ROOM.write().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn demand_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "kernel tests load eBPF programs and make network namespaces, which only root may do: \
         run them as root, or by `cargo xtask test`, which goes through sudo"
    );
}

/// How often an experiment is repeated before the machine is held to be unfit for it.
const TRIALS: usize = 10;

/// Makes an experiment, and makes it again if the kernel kept a transition from synfin's program
/// and says so. What is seen then must be exact.
#[track_caller]
pub(crate) fn conclusive<T>(mut experiment: impl FnMut() -> (Report, T)) -> (Report, T) {
    seen_whole(|| {
        let (report, found) = experiment();
        let missed = report.event("missed");
        if missed > 0 {
            eprintln!("{missed} transitions missed");
        }
        (missed == 0, (report, found))
    })
}

/// The same for an experiment that says by itself whether synfin missed nothing that it knows of.
#[track_caller]
pub(crate) fn seen_whole<T>(mut experiment: impl FnMut() -> (bool, T)) -> T {
    for _ in 0..TRIALS {
        let witness = Witness::begin();
        let (is_whole, found) = experiment();
        let kept = witness.count();
        if is_whole && kept == 0 {
            return found;
        }
        eprintln!("seen whole: {is_whole}; {kept} kept from synfin");
    }
    panic!("in {TRIALS} trials out of {TRIALS} the kernel skipped the program");
}

/// Makes a large experiment, and makes it again if more than one in `share` of its records may be
/// missing. Returns how many may be: what synfin says is missing, and what the kernel kept from
/// its program without a word.
#[track_caller]
pub(crate) fn nearly_whole<E: Events, T>(
    share: u64,
    mut experiment: impl FnMut() -> (E, T),
) -> (E, T, u64) {
    for _ in 0..TRIALS {
        let witness = Witness::begin();
        let (report, found) = experiment();
        let [seen, missed, gaps] = ["seen", "missed", "gaps"].map(|name| report.event(name));
        let missing = missed + gaps + witness.count() as u64;
        eprintln!(
            "{seen} records; {missed} missed, {gaps} gaps, {} kept from synfin",
            witness.count()
        );
        if missing <= seen / share {
            return (report, found, missing);
        }
    }
    panic!("in {TRIALS} trials out of {TRIALS} the kernel skipped the program too often");
}

/// Waits until `look` gives something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < deadline(), "waited {:?} in vain: {what}", deadline());
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until what `look` gives is `wanted`.
#[track_caller]
pub(crate) fn eventually_equal<T: PartialEq + Debug>(
    what: &str,
    wanted: T,
    mut look: impl FnMut() -> T,
) {
    let begun = Instant::now();
    loop {
        let found = look();
        if found == wanted {
            return;
        }
        assert!(
            begun.elapsed() < deadline(),
            "waited {:?} in vain: {what} is {found:?} and not {wanted:?}",
            deadline()
        );
        thread::sleep(Duration::from_millis(5));
    }
}
