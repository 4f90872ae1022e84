//! Tracing this host: attaching to the kernel, signals, and the command to trace.

use std::{
    ffi::OsString,
    io::{self, ErrorKind},
    num::NonZeroU8,
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{self as signals, kill},
    },
    unistd::{Pid, getpid, getppid},
};
use tokio::{
    process::{Child, Command},
    signal::unix::SignalKind,
    time::sleep,
};

use crate::{
    cli::{live::LiveArgs, select::FilterArgs},
    host::{
        end_signals::{BY_SIGNAL, EndSignals},
        priority,
    },
    message::{
        exit::Exit,
        failure::{Failure, describe},
        stderr::warn,
    },
    source::{Live, Source},
};

/// Attaches the eBPF programs to the kernel of this host.
pub(super) fn attach(args: LiveArgs, filter: &FilterArgs, verbose: u8) -> Result<Box<dyn Source>> {
    let scan_always = args.scan_always;
    Ok(Box::new(Live::attach(args.setup(filter.of_this_host()?, verbose), scan_always)?))
}

/// Prepares this thread to take the records of a trace, after other threads have been started.
pub(super) fn begin() {
    priority::raise();
}

/// How long the command may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// The exit statuses that `timeout` and shells have for a command that did not end in time, cannot be
/// executed, or does not exist.
const NOT_IN_TIME: i32 = 124;
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// The signals that end the run, and the exit of the command that synfin runs.
pub(super) struct Interrupts {
    signals: EndSignals,
    child: Option<Child>,
    /// The result of the command, if it exited before any signal: one from the terminal also ends the
    /// command.
    exit_of_command: Option<Exit>,
    /// The first signal.
    signal: Option<SignalKind>,
}

/// The result of a run in which the command ended so.
fn exit_of(status: ExitStatus) -> Exit {
    exit_with(status.code().unwrap_or_else(|| BY_SIGNAL + status.signal().unwrap_or(0)))
}

fn exit_with(code: i32) -> Exit {
    let code = u8::try_from(code).ok().and_then(NonZeroU8::new);
    code.map_or(Exit::Done, Exit::OfCommand)
}

/// Starts a command, which the kernel ends if synfin is killed.
fn spawn(program: &OsString, args: &[OsString]) -> io::Result<Child> {
    let parent = getpid();
    let die_with_parent = move || {
        priority::restore()?;
        prctl::set_pdeathsig(signals::SIGTERM)?;
        // The parent may have died before that.
        if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    let mut command = Command::new(program);
    // SAFETY: after the fork it only makes system calls.
    unsafe { command.args(args).pre_exec(die_with_parent) };
    command.spawn()
}

impl Interrupts {
    /// Begins to receive signals. `ends_at_second`: the second one ends the process at once.
    pub(super) fn listen(ends_at_second: bool) -> Result<Option<Self>> {
        let signals = EndSignals::listen(ends_at_second).context("cannot listen for signals")?;
        Ok(Some(Self { signals, child: None, exit_of_command: None, signal: None }))
    }

    /// Starts a command, whose exit counts as an interrupt. Does nothing if `command` is empty, or after a
    /// signal.
    pub(super) fn start(&mut self, command: &[OsString]) -> Result<()> {
        if let Some((program, args)) = command.split_first()
            && self.signal.is_none()
        {
            self.child = Some(spawn(program, args).map_err(|error| {
                let (code, remedy) = match error.kind() {
                    ErrorKind::NotFound => (
                        NOT_FOUND,
                        "check its name and PATH; of a script, also the interpreter in its first line",
                    ),
                    ErrorKind::PermissionDenied => {
                        (NOT_EXECUTABLE, "make it executable (chmod +x), or name its interpreter")
                    }
                    _ => (NOT_EXECUTABLE, "check that it is a program for this host"),
                };
                let what = format!("cannot run {}", program.display());
                let failure = Failure::usage(what, describe(&error), remedy);
                Failure { exit: exit_with(code), ..failure }
            })?);
        }
        Ok(())
    }

    /// Ends the command if it still runs: by SIGTERM, and by SIGKILL if it needs longer than the grace time
    /// or another signal arrives. Returns the result of the command, or of the run if that ended first.
    pub(super) async fn end_command(&mut self) -> Result<Exit> {
        if let Some(mut child) = self.child.take() {
            warn("the run ended before the command: sending it SIGTERM");
            let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
            if let Some(pid) = pid {
                // The child has not been waited for, so the id is still its own.
                kill(Pid::from_raw(pid), signals::SIGTERM).context("cannot end the command")?;
            }
            let has_ended = tokio::select! {
                status = child.wait() => status.is_ok(),
                () = sleep(GRACE) => false,
                _ = self.signals.next() => false,
            };
            if !has_ended {
                warn("the command has not ended: sending it SIGKILL");
                child.kill().await.context("cannot end the command")?;
            }
        }
        Ok(match (self.exit_of_command, self.signal) {
            (Some(exit), _) => exit,
            (None, Some(signal)) => exit_with(BY_SIGNAL + signal.as_raw_value()),
            (None, None) => exit_with(NOT_IN_TIME),
        })
    }

    /// Waits for an interrupt. Returns `true` for a signal and `false` if the command exited.
    pub(super) async fn is_signal(&mut self) -> Result<bool> {
        let child = async {
            match &mut self.child {
                Some(child) => child.wait().await,
                None => std::future::pending().await,
            }
        };
        let signal = tokio::select! {
            signal = self.signals.next() => signal,
            status = child => {
                let status = status.context("cannot wait for the command")?;
                self.child = None;
                if self.signal.is_none() {
                    self.exit_of_command = Some(exit_of(status));
                }
                if !status.success() {
                    warn(&format!("the command exited with {status}"));
                }
                return Ok(false);
            }
        };
        self.signal.get_or_insert(signal);
        Ok(true)
    }
}
