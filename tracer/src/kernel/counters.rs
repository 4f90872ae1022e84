//! The kernel side's counters: records seen and lost per CPU, and program runs that the kernel
//! skipped.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
};
use synfin_common::{event::Kind, event_counts::EventCounts};
use zerocopy::transmute;

use super::hooks::{Attached, AttachedProgram};
use crate::trace::counters;

/// The map of [`EventCounts`] as plain words, because aya requires a plain value type.
pub(super) struct Counters(PerCpuArray<MapData, [u64; 3 * Kind::COUNT + 1]>);

impl Counters {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self> {
        let map =
            ebpf.take_map("EVENT_COUNTS").context("the eBPF object has no map EVENT_COUNTS")?;
        Ok(Self(map.try_into()?))
    }

    pub(super) fn read(&self, hooks: &[Attached]) -> Result<counters::Counters> {
        let mut sum = EventCounts::default();
        for &words in self.0.get(&0, 0).context("cannot read the kernel side's counters")?.iter() {
            let counts: EventCounts = transmute!(words);
            sum.add(&counts);
        }
        let missed = hooks.iter().flat_map(|hook| &hook.programs).map(missed).sum();
        let EventCounts { seen, lost, filtered, refused } = sum;
        Ok(counters::Counters { seen, lost, filtered, refused, missed })
    }
}

/// How often the kernel skipped the program because it was already running on that CPU. Only
/// `fdinfo` shows this count; kernels before 5.12 do not keep it.
fn missed(program: &AttachedProgram) -> u64 {
    fdinfo(program).and_then(|text| value(&text, "recursion_misses")).unwrap_or(0)
}

/// The run time of a hook, which the kernel counts while its statistics are enabled
/// (`kernel.bpf_stats_enabled`).
#[derive(Clone, Debug)]
pub struct Cost {
    /// The hook's name.
    pub hook: &'static str,
    /// Total run time of the hook's programs, in nanoseconds.
    pub run_ns: u64,
    /// Number of runs of the hook's programs.
    pub runs: u64,
}

pub(super) fn cost(hook: &Attached) -> Option<Cost> {
    let mut cost = Cost { hook: hook.name, run_ns: 0, runs: 0 };
    for program in &hook.programs {
        let text = fdinfo(program)?;
        cost.run_ns += value(&text, "run_time_ns")?;
        cost.runs += value(&text, "run_cnt")?;
    }
    Some(cost)
}

fn fdinfo(program: &AttachedProgram) -> Option<String> {
    std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.program.as_raw_fd())).ok()
}

fn value(fdinfo: &str, key: &str) -> Option<u64> {
    let values = fdinfo.lines().filter_map(|line| line.split_once(':'));
    values.filter(|(name, _)| *name == key).find_map(|(_, value)| value.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    #[test]
    fn misses_are_read_from_fdinfo() {
        let text = "pos:\t0\nprog_id:\t12\nrun_cnt:\t0\nrecursion_misses:\t7\nverified_insns:\t9\n";
        assert_eq!(super::value(text, "recursion_misses"), Some(7));
        assert_eq!(super::value("pos:\t0\n", "recursion_misses"), None);
    }
}
