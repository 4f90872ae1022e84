//! The speed of this machine. On an emulated one, times, loads and tolerances are scaled.

use std::{env, sync::LazyLock, time::Duration};

use nix::time::{ClockId, clock_gettime};

/// The factor by which this machine is slower than most: SYNFIN_TEST_SLOWNESS, or 1.
static SLOWNESS: LazyLock<u32> = LazyLock::new(|| {
    let Ok(text) = env::var("SYNFIN_TEST_SLOWNESS") else { return 1 };
    let slowness = text.parse().ok().filter(|slowness| (1..=100).contains(slowness));
    slowness.unwrap_or_else(|| panic!("SYNFIN_TEST_SLOWNESS is {text}, not from 1 to 100"))
});

/// Whether this machine is slower than most.
pub(crate) fn is_slow() -> bool {
    *SLOWNESS > 1
}

/// The time on this machine that corresponds to a time on others.
pub(crate) fn slowed(time: Duration) -> Duration {
    time * *SLOWNESS
}

/// The load on this machine that corresponds to a load on others, but at least the `least` for
/// which the test is meaningful.
pub(crate) fn scaled(load: usize, least: usize) -> usize {
    assert!(least <= load, "at least {least} of {load}");
    least.max(load / *SLOWNESS as usize)
}

/// The allowed difference between a count of the kernel and synfin's. On a slow machine, where
/// another CPU is often in the middle of an event, it is 2 and one in fifty.
pub(crate) fn slack(counted: u64) -> u64 {
    if is_slow() { 2 + counted / 50 } else { 0 }
}

/// The timeout for conditions that tests wait for, for a busy machine.
pub(crate) fn deadline() -> Duration {
    slowed(Duration::from_mins(1))
}

/// The time of the kernel's records: nanoseconds of CLOCK_MONOTONIC.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the time");
    Duration::from(time).as_nanos() as u64
}
