//! What this process uses of the host.

#[cfg(feature = "live")]
use std::fs;

#[cfg(feature = "live")]
use nix::sys::{
    resource::{Resource, UsageWho, getrlimit, getrusage},
    time::TimeValLike,
};

#[cfg(feature = "live")]
use super::clock;
#[cfg(feature = "live")]
use crate::trace::time::Nanos;

/// CPU time, memory and files of this process. The eBPF programs run on behalf of others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct OwnUsage {
    /// CPU time of all threads, user and system, in microseconds.
    pub(crate) cpu_us: u64,
    /// Resident memory in bytes; 0 if unknown.
    pub(crate) resident: u64,
    /// Virtual memory in bytes; 0 if unknown.
    pub(crate) virtual_memory: u64,
    /// Number of open files.
    pub(crate) open_files: u64,
    /// Maximum number of open files.
    pub(crate) max_files: u64,
    /// When the process started, in seconds since 1970; 0 if unknown.
    pub(crate) started: f64,
}

#[cfg(feature = "live")]
impl OwnUsage {
    /// The usage at this moment.
    pub(crate) fn now() -> Self {
        let status = fs::read("/proc/self/status").unwrap_or_default();
        let stat = fs::read("/proc/self/stat").unwrap_or_default();
        let cpu = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
            usage.user_time().num_microseconds() + usage.system_time().num_microseconds()
        });
        Self {
            cpu_us: cpu.unsigned_abs(),
            resident: bytes_in(&status, "VmRSS:"),
            virtual_memory: bytes_in(&status, "VmSize:"),
            open_files: fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
            max_files: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft),
            started: start_in(&stat).map_or(0.0, |start| (boot() + start) as f64 / 1e9),
        }
    }
}

/// A size from `/proc/PID/status`, whose process name may not be UTF-8.
#[cfg(feature = "live")]
fn bytes_in(status: &[u8], label: &str) -> u64 {
    let status = String::from_utf8_lossy(status);
    let line = status.lines().find_map(|line| line.strip_prefix(label));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The start time from `/proc/PID/stat`, since boot: the 22nd value, in hundredths of a second
/// (USER_HZ). The second is the process's name in parentheses, of any characters.
#[cfg(feature = "live")]
fn start_in(stat: &[u8]) -> Option<Nanos> {
    let stat = String::from_utf8_lossy(stat);
    let ticks: Nanos = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some(ticks.saturating_mul(10_000_000))
}

/// When this host booted, since 1970.
#[cfg(feature = "live")]
fn boot() -> Nanos {
    clock::realtime_ns().saturating_sub(clock::boottime_ns())
}

#[cfg(all(test, feature = "live"))]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_parsed_after_any_process_name() {
        let status = b"Name:\tsynfin-\xc3\nVmSize:\t    6000 kB\nVmRSS:\t    5124 kB\n";
        assert_eq!(bytes_in(status, "VmRSS:"), 5124 << 10);
        assert_eq!(bytes_in(b"", "VmRSS:"), 0);
        let stat = b"7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 1234 99 9";
        assert_eq!(start_in(stat), Some(12_340_000_000));
        assert_eq!(start_in(b"7 (a"), None);
    }

    #[test]
    fn this_process_is_young_and_uses_something() {
        let now = OwnUsage::now();
        let age = clock::realtime_ns() as f64 / 1e9 - now.started;
        assert!((0.0..3600.0).contains(&age), "{age} s old");
        assert!(now.resident > 0 && now.virtual_memory > now.resident, "{now:?}");
        assert!((1..=now.max_files).contains(&now.open_files), "{now:?}");
    }
}
