//! The kernel side's counters: records seen and lost per CPU, and program runs that the kernel
//! skipped.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
};
use synfin_common::{
    event::Kind,
    event_counts::EventCounts,
    taken::{Taken, Writer},
};
use zerocopy::transmute;

use super::hooks::{Attached, AttachedProgram, ProgramRole};
use crate::trace::counters;

/// The maps of [`EventCounts`] and [`Taken`] as plain words, because aya requires a plain value type.
pub(super) struct Counters {
    events: PerCpuArray<MapData, [u64; 3 * Kind::COUNT + 1]>,
    taken: PerCpuArray<MapData, [u64; 5]>,
}

impl Counters {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self> {
        let mut map = |name| {
            ebpf.take_map(name).with_context(|| format!("the eBPF object has no map {name}"))
        };
        Ok(Self { events: map("EVENT_COUNTS")?.try_into()?, taken: map("TAKEN")?.try_into()? })
    }

    pub(super) fn read(&self, hooks: &[Attached]) -> Result<counters::Counters> {
        // Skipped runs come first, so that one that is recovered meanwhile does not count as missed.
        let (mut missed, mut skipped) = (0, 0);
        for program in hooks.iter().flat_map(|hook| &hook.programs) {
            match program.role() {
                ProgramRole::First => skipped += skipped_runs(program),
                ProgramRole::Only => missed += skipped_runs(program),
                ProgramRole::Later => {}
            }
        }
        let of_cpus = self.taken.get(&0, 0).context(UNREADABLE)?;
        let taken = of_cpus.iter().map(|&words| -> Taken { transmute!(words) });
        let recovered = taken.map(|taken| taken.recovered).sum();
        let mut sum = EventCounts::default();
        for writer in 0..Writer::COUNT {
            for &words in self.events.get(&writer, 0).context(UNREADABLE)?.iter() {
                sum.add(&transmute!(words));
            }
        }
        let EventCounts { seen, lost, filtered, refused } = sum;
        Ok(counters::Counters { seen, lost, filtered, refused, missed, skipped, recovered })
    }
}

const UNREADABLE: &str = "cannot read the kernel side's counters";

/// How often the kernel skipped the program because it was already running on that CPU. Only
/// `fdinfo` shows this count; kernels before 5.12 do not keep it.
fn skipped_runs(program: &AttachedProgram) -> u64 {
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
