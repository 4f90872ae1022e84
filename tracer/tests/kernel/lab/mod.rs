//! The laboratory: namespaces with connections, the kernel's own counters, and runs of synfin to
//! compare with them.

mod actor;
mod broken;
mod capture;
mod cgroup;
mod collector;
mod counters;
mod descriptors;
mod identities;
mod kernels;
mod link;
mod load;
mod namespace;
mod pace;
mod peer;
mod picture;
mod process;
mod prometheus;
mod report;
mod sk_lookup;
mod sockets;
mod ss;
mod synfin;
mod terminal;
mod timers;
mod tun;

use std::{
    fmt::Debug,
    process::id,
    sync::{
        RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub(crate) use actor::Actor;
pub(crate) use broken::{BTF, Broken};
pub(crate) use capture::{Capture, Segment};
pub(crate) use cgroup::Cgroup;
pub(crate) use collector::{Collector, Pushed, lacks_collector};
pub(crate) use counters::Counters;
pub(crate) use identities::Seen;
pub(crate) use kernels::{
    Feature, counts_entries, has_own_machine, lacks, lacks_for_a_part, lacks_program, note, since,
    skip, time_waits_entered,
};
pub(crate) use link::{Link, Loss};
pub(crate) use load::{Load, cpus};
pub(crate) use namespace::{Name, Namespace, Wire, ids};
pub(crate) use pace::{deadline, is_slow, now, scaled, slack, slowed};
pub(crate) use peer::{Conn, Peer, pause};
pub(crate) use picture::svg;
pub(crate) use process::{Busy, Policy, Process};
pub(crate) use prometheus::{Host, Prometheus, Series, lacks_prometheus, unix_now};
pub(crate) use report::{Events, Report, RowCounts};
pub(crate) use sk_lookup::SkLookup;
pub(crate) use sockets::{
    Pair, accept, close_by_garbage_collection, connect_to, disconnect, reset, set_option, socket,
    wait_for_end, wait_for_state,
};
pub(crate) use ss::Sock;
pub(crate) use synfin::{Finished, PROGRAM, Synfin, WATCHING};
use synfin_testkit::ftrace::Witness;
use tempfile::TempDir;
pub(crate) use terminal::Terminal;
pub(crate) use timers::TimeWaitTimers;
pub(crate) use tun::Tun;

/// Any number of small tests run at a time, or one test alone.
static ROOM: RwLock<()> = RwLock::new(());

/// Starts a test that may run beside others.
pub(crate) fn enter() -> RwLockReadGuard<'static, ()> {
    demand_root();
    // A failure of another test does not matter.
    ROOM.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Starts a test that has to run alone.
pub(crate) fn enter_alone() -> RwLockWriteGuard<'static, ()> {
    demand_root();
    ROOM.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn demand_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "kernel tests load eBPF programs and create network namespaces, which needs root: \
         run them as root, or with `cargo xtask test`, which uses sudo"
    );
}

/// Maximum number of trials of an experiment whose conditions are not met.
const TRIALS: usize = 10;

/// Repeats an experiment, up to [`TRIALS`] times, until `trial` returns `Some` because its
/// conditions were met. The conditions must not depend on the result, but on a witness, a clock, or
/// a counter of the kernel. The caller checks the result once.
#[track_caller]
pub(crate) fn under<T>(conditions: &str, mut trial: impl FnMut() -> Option<T>) -> T {
    let found = (0..TRIALS).find_map(|_| trial());
    let Some(found) = found else { panic!("not met in {TRIALS} trials: {conditions}") };
    found
}

/// Runs an experiment in which the kernel ran synfin's program at every transition, according to
/// the program's count of misses and an independent witness.
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

/// The same for an experiment that returns whether synfin reports no misses.
#[track_caller]
pub(crate) fn seen_whole<T>(mut experiment: impl FnMut() -> (bool, T)) -> T {
    under("the kernel never skipped synfin's program", || {
        let witness = Witness::begin();
        let (is_whole, found) = experiment();
        let kept = witness.count();
        if !is_whole || kept > 0 {
            eprintln!("seen whole: {is_whole}; {kept} withheld from synfin");
            return None;
        }
        Some(found)
    })
}

/// The share of records that may be missing because the kernel skipped synfin's program.
#[derive(Clone, Copy)]
pub(crate) struct MayMiss {
    one_in: u64,
}

impl MayMiss {
    pub(crate) const NONE: Self = Self::one_in(u64::MAX);

    pub(crate) const fn one_in(records: u64) -> Self {
        Self { one_in: records }
    }

    /// Multiplies the share.
    pub(crate) const fn times(self, factor: u64) -> Self {
        Self { one_in: self.one_in / factor }
    }
}

/// Runs a large experiment once, in which at most that share of the records is missing besides those that only
/// the witness saw. Returns the number of missing records.
#[track_caller]
pub(crate) fn nearly_whole<E: Events, T>(
    may_miss: MayMiss,
    experiment: impl FnOnce() -> (E, T),
) -> (E, T, u64) {
    let witness = Witness::begin();
    let (report, found) = experiment();
    let kept = witness.count() as u64;
    let [seen, missed, gaps] = ["seen", "missed", "gaps"].map(|name| report.event(name));
    let most = kept + seen / may_miss.one_in;
    let missing = missed + gaps;
    eprintln!("{seen} records; {missed} missed, {gaps} gaps, {kept} withheld from synfin");
    assert!(missing <= most, "{missed} missed, {gaps} gaps: more than {most}");
    (report, found, missing + kept)
}

/// The path of a new recording, in a directory that is removed with its handle.
pub(crate) fn recording_file() -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a directory");
    let recording = folder.path().join("recording").to_str().expect("a UTF-8 path").to_owned();
    (folder, recording)
}

/// A name that is unique on this machine.
fn unique_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("synfin-test-{}-{number}", id())
}

/// Waits until `poll` returns a value.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(begun.elapsed() < deadline(), "timed out after {:?}: {what}", deadline());
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `poll` returns `wanted`.
#[track_caller]
pub(crate) fn eventually_equal<T: PartialEq + Debug>(
    what: &str,
    wanted: T,
    mut poll: impl FnMut() -> T,
) {
    let begun = Instant::now();
    loop {
        let found = poll();
        if found == wanted {
            return;
        }
        assert!(
            begun.elapsed() < deadline(),
            "timed out after {:?}: {what} is {found:?}, not {wanted:?}",
            deadline()
        );
        thread::sleep(Duration::from_millis(5));
    }
}
