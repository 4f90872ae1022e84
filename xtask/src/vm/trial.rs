//! What became of one kernel.

use std::{path::Path, time::Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    guest::{Ended, Task},
    machine::{self, Machine, Traces},
    results::{self, TestRun},
};
use crate::{test::Summary, workspace::say};

/// A kernel that was wanted, and what came of that.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Trial {
    /// As `uname -r` says it; if it cannot be had, as it was asked for.
    pub(super) kernel: String,
    /// Of the synfin that was tried.
    pub(super) synfin: String,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// It could not be had.
    Skipped(String),
    Tried(Tried),
}

/// What a machine showed.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Tried {
    pub(super) run: TestRun,
    pub(super) seconds: u64,
    /// What is wrong besides tests that failed.
    pub(super) wrong: Vec<String>,
    /// As `uname -v` says it.
    pub(super) version: String,
    /// What synfin says of the host; null if nothing.
    pub(super) host: Value,
}

impl Trial {
    /// What it showed, if it came to its end.
    pub(super) fn whole(&self) -> Option<&Tried> {
        match &self.outcome {
            Outcome::Tried(tried) if tried.wrong.is_empty() => Some(tried),
            _ => None,
        }
    }

    /// Whatever is wrong besides tests that failed counts as one more, and so does a kernel that
    /// was not tried.
    pub(super) fn summary(&self) -> Summary {
        match &self.outcome {
            Outcome::Skipped(_) => Summary { skipped: 1, ..Summary::default() },
            Outcome::Tried(Tried { run, wrong, .. }) => {
                let more = Summary { failed: wrong.len() as u64, ..Summary::default() };
                [run.summary(), more].into_iter().sum()
            }
        }
    }
}

/// Where in its folder a machine leaves the traces of its second attempt.
const AGAIN: &str = "again";

/// Boots a machine and judges what it did. Tests that fail have a second attempt, by themselves on
/// a machine booted anew: an emulated processor beside others may stand still for long enough to
/// fail a test that waits. Those that pass then are said to have needed it.
pub(super) fn carry_out(machine: &Machine, task: &Task) -> Tried {
    let name = &machine.kernel.name;
    let begun = Instant::now();
    let mut tried = attempt(machine, task, &machine.folder);
    if tried.wrong.is_empty() {
        tried = try_again(machine, task, tried);
    }
    tried.seconds = begun.elapsed().as_secs();
    say(format!("{name} has come to its end after {} s", tried.seconds));
    tried
}

/// Tries what failed once more, on a machine booted anew.
pub(super) fn try_again(machine: &Machine, task: &Task, mut tried: Tried) -> Tried {
    let failed = tried.run.failed();
    if !failed.is_empty() {
        say(format!("{} makes another attempt at {}", machine.kernel.name, failed.join(", ")));
        let again = attempt(machine, &task.of_tests(&failed), &machine.folder.join(AGAIN));
        tried.run.take_second_attempt(&again.run);
        tried.wrong.extend(again.wrong);
    }
    tried
}

fn attempt(machine: &Machine, task: &Task, folder: &Path) -> Tried {
    let name = &machine.kernel.name;
    say(format!("booting {name}; what its tests say is in {}/output", folder.display()));
    match Traces::in_folder(folder) {
        Ok(traces) => judge(machine, task, &traces),
        Err(error) => Tried { wrong: vec![format!("{error:#}")], ..Tried::default() },
    }
}

fn judge(machine: &Machine, task: &Task, traces: &Traces) -> Tried {
    let report = machine::run(machine, task, traces);
    let output = traces.output();
    let run = TestRun::parse(&output);
    let mut wrong = results::complaints(&traces.console());
    if run.tests.len() < run.announced {
        let (done, all) = (run.tests.len(), run.announced);
        wrong.push(format!("only {done} of {all} tests came to an end"));
    }
    if run.announced == 0 {
        wrong.push("no test ran".into());
    }
    let failures = results::failures(&output);
    if !failures.is_empty() {
        say(format!("on {} the tests said:\n{failures}", machine.kernel.name));
    }
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            wrong.push(format!("{error:#}"));
            return Tried { run, wrong, ..Tried::default() };
        }
    };
    if report.doctor != Ended::WELL {
        wrong.push(format!("`synfin doctor` is not content:\n{}", report.doctor_said));
    }
    if report.tests != Ended::WELL && run.summary().failed == 0 {
        wrong.push(format!("no test failed, but the program that runs them did: {}", report.tests));
    }
    Tried { run, wrong, version: report.version, host: report.host, seconds: 0 }
}
