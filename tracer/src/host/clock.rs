//! The only file that reads a clock. The pure code receives time as data.

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_getres, clock_gettime};

/// The clock of all records: `CLOCK_MONOTONIC`, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    read_ns(ClockId::CLOCK_MONOTONIC)
}

/// Nanoseconds since the Unix epoch, UTC.
pub fn realtime_ns() -> u64 {
    read_ns(ClockId::CLOCK_REALTIME)
}

/// CPU time that this thread has used, in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    read_ns(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// The length of a jiffy in microseconds. It is the resolution of the coarse clock, which the
/// kernel's timer interrupt advances.
///
/// # Errors
///
/// The kernel does not have the coarse clock.
pub fn jiffy_us() -> Result<u32> {
    let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
        .context("cannot ask for the resolution of CLOCK_MONOTONIC_COARSE")?;
    Ok(u32::try_from(resolution.tv_nsec() / 1000)?)
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads clocks")]
fn read_ns(clock: ClockId) -> u64 {
    // Cannot fail: all kernels have these clocks.
    clock_gettime(clock).map_or(0, |time| {
        time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned()
    })
}
