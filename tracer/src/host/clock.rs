//! The only file that reads a clock. The pure part gets time as data.

use nix::time::{ClockId, clock_gettime};

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

#[expect(clippy::disallowed_methods, reason = "the one place that reads clocks")]
fn read_ns(clock: ClockId) -> u64 {
    // Cannot fail: these clocks exist everywhere.
    clock_gettime(clock)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
