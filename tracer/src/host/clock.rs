//! The only file that reads a clock. The pure code receives time as data.

use std::{fs, path::Path, sync::OnceLock};

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_getres, clock_gettime};

/// The clock of all records: `CLOCK_MONOTONIC` of the initial time namespace, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    static OFFSET: OnceLock<i64> = OnceLock::new();
    let offset = *OFFSET.get_or_init(|| {
        // The offsets are those of the namespace of children, which need not be this process's.
        let [own, of_children] = ["time", "time_for_children"]
            .map(|name| fs::read_link(Path::new("/proc/self/ns").join(name)).ok());
        let offsets = fs::read_to_string("/proc/self/timens_offsets").ok();
        let offset = offsets.filter(|_| own == of_children);
        offset.and_then(|offsets| monotonic_offset(&offsets)).unwrap_or(0)
    });
    read_ns(ClockId::CLOCK_MONOTONIC).saturating_add_signed(-offset)
}

/// What the time namespace adds to `CLOCK_MONOTONIC`, in nanoseconds: eBPF programs read the clock
/// without it (`kernel/time/namespace.c:proc_timens_show_offsets`).
fn monotonic_offset(offsets: &str) -> Option<i64> {
    let line = offsets.lines().find_map(|line| line.strip_prefix("monotonic"))?;
    let mut numbers = line.split_whitespace().map(str::parse::<i64>);
    let (seconds, nanoseconds) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// Nanoseconds since the Unix epoch, UTC.
pub fn realtime_ns() -> u64 {
    read_ns(ClockId::CLOCK_REALTIME)
}

/// Nanoseconds since boot, suspension included, in this process's time namespace.
pub fn boottime_ns() -> u64 {
    read_ns(ClockId::CLOCK_BOOTTIME)
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

#[cfg(test)]
mod tests {
    #[test]
    fn the_offset_of_a_time_namespace_is_read() {
        let offsets = "monotonic     -86400         5\nboottime           0         0\n";
        assert_eq!(super::monotonic_offset(offsets), Some(-86_399_999_999_995));
        assert_eq!(super::monotonic_offset(""), None);
    }
}
