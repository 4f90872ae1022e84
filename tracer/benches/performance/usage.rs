//! CPU time and memory of processes, as the kernel counts them.

use std::{
    fs,
    process::{Child, ExitStatus},
};

use anyhow::{Context, Result};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::{TimeVal, TimeValLike},
};

/// CPU time in seconds.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize, serde::Serialize)]
pub(crate) struct Usage {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Usage {
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system }
    }
}

/// Waits until a child exits. No other child may exit at the same time.
pub(crate) fn of_child(child: &mut Child) -> Result<(ExitStatus, Usage)> {
    let seconds = |time: TimeVal| time.num_microseconds() as f64 / 1e6;
    let children = || -> Result<Usage> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        Ok(Usage { user: seconds(usage.user_time()), system: seconds(usage.system_time()) })
    };
    let before = children()?;
    let status = child.wait()?;
    let usage = children()?.since(before);
    Ok((status, usage))
}

/// CPU time of a running process so far.
pub(crate) fn of_process(pid: u32) -> Result<Usage> {
    let statistics = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name, which may contain any character.
    let fields = statistics.rsplit(')').next().unwrap_or_default();
    let ticks = |index| fields.split_whitespace().nth(index)?.parse::<f64>().ok();
    let seconds = |index| Some(ticks(index)? / TICKS_PER_SECOND);
    let usage = seconds(USER).zip(seconds(SYSTEM));
    let (user, system) = usage.with_context(|| format!("cannot read the CPU time of {pid}"))?;
    Ok(Usage { user, system })
}

/// `USER_HZ` of every Linux, and the positions of the times after the name.
const TICKS_PER_SECOND: f64 = 100.0;
const USER: usize = 11;
const SYSTEM: usize = 12;

/// Current memory of a process in bytes.
pub(crate) fn memory(pid: u32) -> Result<u64> {
    status(pid, "VmRSS:")
}

/// Peak memory of a process in bytes.
pub(crate) fn peak_memory(pid: u32) -> Result<u64> {
    status(pid, "VmHWM:")
}

fn status(pid: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(1024 * kilobytes.with_context(|| format!("no {field} in the status of {pid}"))?)
}

/// CPU seconds of a process's threads with this name so far.
pub(crate) fn of_threads(pid: u32, name: &str) -> Result<f64> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.path();
        if fs::read_to_string(thread.join("comm"))?.trim() == name {
            let statistics = fs::read_to_string(thread.join("schedstat"))?;
            let on_cpu = statistics.split(' ').next().and_then(|field| field.parse::<u64>().ok());
            nanoseconds += on_cpu.context("the kernel does not report the CPU time of a thread")?;
        }
    }
    Ok(nanoseconds as f64 / 1e9)
}
