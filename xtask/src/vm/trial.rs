//! What became of one kernel.

use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::{
    guest::Ended,
    machine::{self, Machine, Traces},
    results::{self, TestRun},
};
use crate::{test::Summary, workspace::say};

/// A kernel that was wanted, and what came of that.
#[derive(Serialize)]
pub(super) struct Trial {
    /// As `uname -r` says it; if it cannot be had, as it was asked for.
    pub(super) kernel: String,
    pub(super) outcome: Outcome,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// It could not be had.
    Skipped(String),
    Tried(Tried),
}

/// What a machine showed.
#[derive(Default, Serialize)]
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

/// Boots a machine and judges what it did.
pub(super) fn carry_out(machine: &Machine) -> Tried {
    let name = &machine.kernel.name;
    say(format!("booting {name}; what its tests say is in {}/output", machine.folder.display()));
    let begun = Instant::now();
    let mut tried = match Traces::in_folder(&machine.folder) {
        Ok(traces) => judge(machine, &traces),
        Err(error) => Tried { wrong: vec![format!("{error:#}")], ..Tried::default() },
    };
    tried.seconds = begun.elapsed().as_secs();
    say(format!("{name} has come to its end after {} s", tried.seconds));
    tried
}

fn judge(machine: &Machine, traces: &Traces) -> Tried {
    let report = machine::run(machine, traces);
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
