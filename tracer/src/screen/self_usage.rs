//! CPU and memory usage of synfin itself, measured at each refresh.

use std::fs;

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};

use super::update::SelfUsage;
use crate::{host::clock, trace::time::Nanos};

/// Minimum interval in nanoseconds for a meaningful CPU share.
const MIN_INTERVAL: Nanos = 100_000_000;

/// Measures the usage since the last reading.
pub(crate) struct Meter {
    at: Nanos,
    cpu_us: i64,
    last_pct: f64,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self { at: clock::monotonic_ns(), cpu_us: cpu_us(), last_pct: 0.0 }
    }

    /// The usage since the last call.
    pub(crate) fn read(&mut self) -> SelfUsage {
        let now = Self::new();
        let wall = now.at - self.at;
        if wall >= MIN_INTERVAL {
            let cpu = (now.cpu_us - self.cpu_us) as f64 * 1e3;
            *self = Self { last_pct: 100.0 * cpu / wall as f64, ..now };
        }
        SelfUsage { cpu_pct: self.last_pct, bytes: resident() }
    }
}

/// CPU time of all threads, user and system, in microseconds.
fn cpu_us() -> i64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds()
    })
}

fn resident() -> u64 {
    resident_in(&fs::read("/proc/self/status").unwrap_or_default())
}

/// Resident memory in bytes from `/proc/self/status`, whose process name may not be UTF-8.
fn resident_in(status: &[u8]) -> u64 {
    let status = String::from_utf8_lossy(status);
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    #[test]
    fn memory_is_parsed_after_any_process_name() {
        assert_eq!(super::resident_in(b"Name:\tsynfin-\xc3\nVmRSS:\t    5124 kB\n"), 5124 << 10);
        assert_eq!(super::resident_in(b""), 0);
    }
}
