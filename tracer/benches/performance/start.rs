//! The time from the start of the program to the first record, and the program's size.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use synfin::{
    host::clock,
    trace::{decode::decode, event::Input, recording::Frame},
};

use crate::{load::Load, median, replay, tracer::Synfin};

const ROUNDS: usize = 7;

/// Enough for a transition every millisecond or two while the CPUs are mostly idle.
const NAMESPACES: usize = 20;

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Start {
    /// Milliseconds from start to first record, of each round.
    to_first_record: Vec<f64>,
    /// Size of the statically linked program.
    pub(crate) bytes: u64,
}

pub(crate) fn measure(synfin: &Synfin) -> Result<Start> {
    let mut to_first_record = Vec::new();
    for _ in 0..ROUNDS {
        let load = Load::Namespaces { count: NAMESPACES, ms: 2_000 }.start()?;
        thread::sleep(Duration::from_secs(1));
        to_first_record.push(first_record(synfin)?);
        load.end()?;
    }
    Ok(Start { to_first_record, bytes: fs::metadata(&synfin.0)?.len() })
}

/// Milliseconds from the start of the program to the time of the first record.
fn first_record(synfin: &Synfin) -> Result<f64> {
    let file = tempfile::NamedTempFile::new()?;
    let mut command = Command::new(&synfin.0);
    command
        .args(["record", "--force"])
        .arg(file.path())
        .stderr(Stdio::null())
        .stdout(Stdio::null());
    let begun = clock::monotonic_ns();
    let mut child = command.spawn()?;
    thread::sleep(Duration::from_millis(500));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT)?;
    child.wait()?;
    let mut first = None;
    for frame in replay::read(file.path())?.iter().filter(|it| matches!(it, Frame::Events(_))) {
        decode(frame, |input| {
            if let (Input::Transition(transition), None) = (&input, first) {
                first = Some(transition.time);
            }
        });
    }
    Ok((first.context("nothing was recorded")? - begun) as f64 / 1e6)
}

impl Start {
    pub(crate) fn ms(&self) -> f64 {
        median(self.to_first_record.iter().copied())
    }
}
