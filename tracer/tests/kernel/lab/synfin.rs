//! Runs synfin.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Instant,
};

use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Process, Report, deadline};

/// What synfin prints on stderr when it traces everything.
pub(crate) const WATCHING: &str = "synfin: watching";

/// A running synfin.
pub(crate) struct Synfin {
    child: Child,
    /// Its output, line by line.
    lines: mpsc::Receiver<String>,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

/// The result of a run.
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Synfin {
    /// Starts synfin, and waits until it traces everything.
    #[track_caller]
    pub(crate) fn watch<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        let mut command = command();
        command.args(args);
        Self::watch_command(&mut command)
    }

    /// The same for a command that executes synfin.
    #[track_caller]
    pub(crate) fn watch_command(command: &mut Command) -> Self {
        let (mut synfin, printed) = Self::start(command);
        let is_ready = |line: Result<String, _>| line.map(|l| l.starts_with(WATCHING));
        let begun = Instant::now();
        while !is_ready(printed.recv_timeout(deadline().saturating_sub(begun.elapsed())))
            .unwrap_or_else(|_| synfin.give_up("does not start to trace"))
        {}
        synfin
    }

    /// Runs synfin until it exits.
    #[track_caller]
    pub(crate) fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Finished {
        let mut command = command();
        command.args(args);
        Self::run_command(&mut command)
    }

    /// Runs a command that executes synfin.
    #[track_caller]
    pub(crate) fn run_command(command: &mut Command) -> Finished {
        let (synfin, _) = Self::start(command);
        synfin.wait()
    }

    fn start(command: &mut Command) -> (Self, mpsc::Receiver<String>) {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let (stdout, lines) = keep(child.stdout.take().expect("a pipe"));
        let (stderr, printed) = keep(child.stderr.take().expect("a pipe"));
        (Self { child, lines, stdout: Some(stdout), stderr: Some(stderr) }, printed)
    }

    /// Waits until it prints a matching JSON object, and skips others.
    #[track_caller]
    pub(crate) fn wait_for_printed(&self, what: &str, is_wanted: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        loop {
            let line = self.lines.recv_timeout(deadline().saturating_sub(begun.elapsed()));
            let line = line.unwrap_or_else(|error| panic!("synfin does not print {what}: {error}"));
            if is_wanted(&serde_json::from_str(&line).expect("an object")) {
                return;
            }
        }
    }

    /// Its process.
    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Waits until it exits by itself.
    #[track_caller]
    pub(crate) fn end(self) -> Finished {
        self.wait()
    }

    /// Ends it with SIGINT, as Ctrl-C does.
    #[track_caller]
    pub(crate) fn finish(self) -> Finished {
        self.process().signal(Signal::SIGINT);
        let finished = self.wait();
        assert_eq!(finished.code, 0, "synfin failed: {}", finished.stderr);
        finished
    }

    #[track_caller]
    fn wait(mut self) -> Finished {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                break status;
            }
            if begun.elapsed() > deadline() {
                self.give_up("does not end");
            }
            thread::sleep(std::time::Duration::from_millis(5));
        };
        let code = status.code().unwrap_or_else(|| panic!("synfin was killed: {status}"));
        Finished { code, stdout: kept(&mut self.stdout), stderr: kept(&mut self.stderr) }
    }

    #[track_caller]
    fn give_up(&mut self, what: &str) -> ! {
        let _ = self.child.kill();
        panic!("synfin {what}: {}", kept(&mut self.stderr));
    }
}

impl Drop for Synfin {
    fn drop(&mut self) {
        // Still running only if the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// Checks that it failed with this exit status and printed an error, its cause and a remedy that
    /// contain these parts.
    #[track_caller]
    pub(crate) fn check_explained(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}", self.stderr);
        for part in ["synfin: ", "\n  why: ", "\n  remedy: "].iter().chain(parts) {
            assert!(self.stderr.contains(part), "no {part:?} in:\n{}", self.stderr);
        }
    }

    /// Parses the output as a single report.
    #[track_caller]
    pub(crate) fn report(&self) -> Report {
        let mut lines = self.json_lines();
        assert_eq!(lines.len(), 1, "expected one report: {}{}", self.stdout, self.stderr);
        Report::new(lines.remove(0)).complete()
    }

    /// The findings that `diagnose` printed.
    #[track_caller]
    pub(crate) fn findings(&self) -> Vec<Value> {
        let lines = self.json_lines();
        let [printed] = &lines[..] else { panic!("expected one object, found {lines:#?}") };
        printed["findings"].as_array().expect("findings").clone()
    }

    /// Parses the output as JSON objects, one per line.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let mut lines = Vec::new();
        self.each_line(|line| lines.push(line));
        lines
    }

    /// The same one by one, so that a long output is not stored.
    #[track_caller]
    pub(crate) fn each_line<T: DeserializeOwned>(&self, mut take: impl FnMut(T)) {
        assert_eq!(self.code, 0, "synfin failed: {}", self.stderr);
        for line in self.stdout.lines() {
            take(serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
        }
    }
}

/// Reads a pipe to its end, and passes on each line.
fn keep(pipe: impl Read + Send + 'static) -> (JoinHandle<String>, mpsc::Receiver<String>) {
    let (pass, passed) = mpsc::channel();
    let keep = move || {
        let (mut pipe, mut kept) = (BufReader::new(pipe), String::new());
        loop {
            let begun = kept.len();
            if pipe.read_line(&mut kept).expect("text") == 0 {
                return kept;
            }
            // The receiver may be gone.
            let _ = pass.send(kept[begun..].trim_end().to_owned());
        }
    };
    (thread::spawn(keep), passed)
}

fn kept(output: &mut Option<JoinHandle<String>>) -> String {
    output.take().map(|thread| thread.join().expect("its output")).unwrap_or_default()
}

/// The program built with these tests.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_synfin");

fn command() -> Command {
    Command::new(PROGRAM)
}
