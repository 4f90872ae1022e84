//! The only file that reads a clock. The pure part gets time as data.

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_getres, clock_gettime};

/// The clock of every record: `CLOCK_MONOTONIC`, nanoseconds.
pub fn monotonic_ns() -> u64 {
    read_ns(ClockId::CLOCK_MONOTONIC)
}

/// Nanoseconds since 1970, UTC.
pub fn realtime_ns() -> u64 {
    read_ns(ClockId::CLOCK_REALTIME)
}

/// CPU time of this thread so far, nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    read_ns(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// The length of a jiffy in microseconds: the resolution of the coarse clock, which the kernel's
/// timer interrupt advances.
pub fn jiffy_us() -> Result<u32> {
    let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
        .context("cannot ask for the resolution of CLOCK_MONOTONIC_COARSE")?;
    Ok(resolution.tv_nsec() as u32 / 1000)
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads clocks")]
fn read_ns(clock: ClockId) -> u64 {
    // Cannot fail: these clocks exist everywhere.
    clock_gettime(clock)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
