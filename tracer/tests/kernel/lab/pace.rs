//! How fast this machine is. An emulated one takes its time, and what is expected of tests there
//! is said in relation to what is on any other.

use std::{env, sync::LazyLock, time::Duration};

/// By how much this machine is slower than most: SYNFIN_TEST_SLOWNESS, or 1.
static SLOWNESS: LazyLock<u32> = LazyLock::new(|| {
    let Ok(text) = env::var("SYNFIN_TEST_SLOWNESS") else { return 1 };
    let slowness = text.parse().ok().filter(|slowness| (1..=100).contains(slowness));
    slowness.unwrap_or_else(|| panic!("SYNFIN_TEST_SLOWNESS is {text}, not from 1 to 100"))
});

/// Whether this machine is slower than most.
pub(crate) fn is_slow() -> bool {
    *SLOWNESS > 1
}

/// What is done in such a time elsewhere is done in this time here.
pub(crate) fn slowed(time: Duration) -> Duration {
    time * *SLOWNESS
}

/// As much as is done elsewhere in the time that it may take here, but at least so much, that the
/// test means something.
pub(crate) fn scaled(load: usize, least: usize) -> usize {
    assert!(least <= load, "at least {least} of {load}");
    least.max(load / *SLOWNESS as usize)
}

/// By how much a count of the kernel's may be off what was seen: on a slow machine, where the other
/// processor gets into the middle of things, by one in fifty and a few.
pub(crate) fn slack(counted: u64) -> u64 {
    if is_slow() { 2 + counted / 50 } else { 0 }
}

/// Whatever is waited for happens within this, however busy the machine is.
pub(crate) fn deadline() -> Duration {
    // Slow ones are no busier.
    Duration::from_secs(60).max(slowed(Duration::from_secs(20)))
}
