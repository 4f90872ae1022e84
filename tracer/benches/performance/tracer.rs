//! Processes of synfin and of other tracers.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::programs::Programs;

/// The timeout for the start of a tracer.
const LONGEST_START: Duration = Duration::from_secs(10);

/// Other tracers do not report their start.
const START_OF_OTHERS: Duration = Duration::from_secs(1);

/// The program to measure.
#[derive(Clone, Debug)]
pub(crate) struct Synfin(pub(crate) PathBuf);

/// A running tracer.
pub(crate) struct Tracer {
    child: Child,
    output: File,
    before: Programs,
}

/// A tracer that has exited.
pub(crate) struct Ended {
    output: String,
}

impl Synfin {
    /// Starts to trace, and waits until every event is captured.
    pub(crate) fn watch(&self, args: &[&str]) -> Result<Tracer> {
        let mut command = Command::new(&self.0);
        let mut tracer = Tracer::start(command.args(args).stderr(Stdio::piped()))?;
        let stderr = tracer.child.stderr.take().context("synfin has no stderr")?;
        let mut lines = BufReader::new(stderr).lines();
        loop {
            match lines.next().transpose()? {
                Some(line) if line.starts_with("synfin: watching") => break,
                Some(line) => eprintln!("{line}"),
                None => bail!("synfin does not start to trace"),
            }
        }
        thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
        Ok(tracer)
    }

    /// Runs it until it exits, and returns its output.
    pub(crate) fn run(&self, args: &[&str]) -> Result<Ended> {
        let mut command = Command::new(&self.0);
        Tracer::start(command.args(args).stderr(Stdio::inherit()))?.ended()
    }
}

impl Tracer {
    /// Starts another tracer, and waits until its programs are loaded.
    pub(crate) fn other(program: &str) -> Result<Self> {
        let mut command = Command::new(program);
        let tracer = Self::start(command.stderr(Stdio::null()))?;
        let begun = Instant::now();
        while tracer.programs().is_empty() {
            if begun.elapsed() > LONGEST_START {
                bail!("{program} loads no programs");
            }
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(START_OF_OTHERS);
        Ok(tracer)
    }

    fn start(command: &mut Command) -> Result<Self> {
        let before = Programs::now();
        let output = tempfile::tempfile()?;
        let child = command.stdin(Stdio::null()).stdout(output.try_clone()?).spawn();
        let child = child.with_context(|| format!("cannot run {command:?}"))?;
        Ok(Self { child, output, before })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its eBPF programs, and their cost so far.
    pub(crate) fn programs(&self) -> Programs {
        Programs::now().without(&self.before)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id() as i32), signal)?)
    }

    /// Stops it for this time.
    pub(crate) fn stall(&self, time: Duration) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        thread::sleep(time);
        self.signal(Signal::SIGCONT)
    }

    /// Ends it with SIGINT, as Ctrl-C does.
    pub(crate) fn finish(self) -> Result<Ended> {
        self.signal(Signal::SIGINT)?;
        self.ended()
    }

    fn ended(mut self) -> Result<Ended> {
        self.child.wait()?;
        self.output.rewind()?;
        let mut output = Vec::new();
        self.output.read_to_end(&mut output)?;
        Ok(Ended { output: String::from_utf8_lossy(&output).into_owned() })
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Still running only after an error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The JSON objects of its output, one per line.
    fn lines(&self) -> impl Iterator<Item = Result<Value>> {
        self.output.lines().map(|line| Ok(serde_json::from_str(line)?))
    }

    /// The number of lines of its output that contain this.
    pub(crate) fn count_lines(&self, word: &str) -> u64 {
        self.output.lines().filter(|line| line.contains(word)).count() as u64
    }

    /// The last JSON object.
    pub(crate) fn json(&self) -> Result<Value> {
        self.lines().last().context("synfin printed nothing")?
    }

    /// The counts of records in all reports.
    pub(crate) fn events(&self) -> Result<Events> {
        let mut sum = Events::default();
        for report in self.lines() {
            sum.add(serde_json::from_value(report?["events"].clone())?);
        }
        Ok(sum)
    }
}

/// Counts of records.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize, serde::Serialize)]
pub(crate) struct Events {
    pub(crate) seen: u64,
    pub(crate) lost: u64,
    pub(crate) missed: u64,
    pub(crate) gaps: u64,
    pub(crate) recovered: u64,
}

impl Events {
    fn add(&mut self, other: Self) {
        let Self { seen, lost, missed, gaps, recovered } = self;
        *seen += other.seen;
        *lost += other.lost;
        *missed += other.missed;
        *gaps += other.gaps;
        *recovered += other.recovered;
    }
}
