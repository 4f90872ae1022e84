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
    taken::{Hook, Taken},
};
use zerocopy::transmute;

use super::hooks::{Attached, AttachedProgram, is_later};
use crate::trace::counters;

/// The number of writers that have counts of their own (`tracer-ebpf/src/emit.rs`).
const WRITERS: u32 = 3;

/// The maps of [`EventCounts`] and [`Taken`] as plain words, because aya requires a plain value type.
pub(super) struct Counters {
    events: PerCpuArray<MapData, [u64; 3 * Kind::COUNT + 1]>,
    taken: PerCpuArray<MapData, [u64; 3]>,
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
        let programs = hooks.iter().flat_map(|hook| &hook.programs);
        let skipped: Vec<_> = programs
            .filter(|program| !is_later(program.name))
            .map(|program| (program.name, skipped(program)))
            .collect();
        // The tracker subtracts recovered transitions: it knows which were not skipped.
        let recovered = self.recovered(Hook::StateChange)?;
        let mut missed = 0;
        for (program, skipped) in skipped {
            let recovered = match program {
                "reset_received" => self.recovered(Hook::ResetReceived)?,
                "reset_sent" => self.recovered(Hook::ResetSent)?,
                _ => 0,
            };
            missed += skipped.saturating_sub(recovered);
        }
        let mut sum = EventCounts::default();
        for writer in 0..WRITERS {
            for &words in self.events.get(&writer, 0).context(UNREADABLE)?.iter() {
                sum.add(&transmute!(words));
            }
        }
        let EventCounts { seen, lost, filtered, refused } = sum;
        Ok(counters::Counters { seen, lost, filtered, refused, missed, recovered })
    }

    /// How many events of the hook a later program took.
    fn recovered(&self, hook: Hook) -> Result<u64> {
        let of_cpus = self.taken.get(&(hook as u32), 0).context(UNREADABLE)?;
        let taken = of_cpus.iter().map(|&words| -> Taken { transmute!(words) });
        Ok(taken.map(|taken| taken.recovered).sum())
    }
}

const UNREADABLE: &str = "cannot read the kernel side's counters";

/// How often the kernel skipped the program because it was already running on that CPU. Only
/// `fdinfo` shows this count; kernels before 5.12 do not keep it.
fn skipped(program: &AttachedProgram) -> u64 {
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
