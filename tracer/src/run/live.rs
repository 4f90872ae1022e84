//! Tracing this host: attaching to the kernel, signals, and the command to trace.

use std::{
    ffi::OsString, io, num::NonZeroU8, os::unix::process::ExitStatusExt, process::ExitStatus,
};

use anyhow::{Context, Result};
use tokio::{
    process::Child,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    cli::{live::LiveArgs, select::FilterArgs},
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

/// SIGINT, SIGTERM, and the exit of the command that synfin runs.
pub(super) struct Interrupts {
    signals: [Signal; 2],
    child: Option<Child>,
    /// Set when the command has exited before any signal: one from the terminal also ends the command.
    exit_of_command: Exit,
    is_interrupted: bool,
}

/// The result of a run in which the command ended so.
fn exit_of(status: ExitStatus) -> Exit {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    let code = code.and_then(|code| u8::try_from(code).ok()).and_then(NonZeroU8::new);
    code.map_or(Exit::Done, Exit::OfCommand)
}

impl Interrupts {
    pub(super) fn listen() -> Result<Option<Self>> {
        let listen =
            || io::Result::Ok([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?]);
        let signals = listen().context("cannot listen for signals")?;
        Ok(Some(Self { signals, child: None, exit_of_command: Exit::Done, is_interrupted: false }))
    }

    /// Starts a command, whose exit counts as an interrupt. Does nothing if `command` is empty.
    pub(super) fn start(&mut self, command: &[OsString]) -> Result<()> {
        if let Some((program, args)) = command.split_first() {
            let child = tokio::process::Command::new(program).args(args).spawn();
            let child = child.map_err(|error| {
                let what = format!("cannot run {}", program.display());
                Failure::usage(what, describe(&error), "check the command after `--`")
            });
            self.child = Some(child?);
        }
        Ok(())
    }

    /// The result of the command, if it has exited.
    pub(super) fn exit_of_command(&self) -> Exit {
        self.exit_of_command
    }

    /// Waits for an interrupt. Returns `true` for a signal and `false` if the command exited.
    pub(super) async fn is_signal(&mut self) -> Result<bool> {
        let [interrupt, terminate] = &mut self.signals;
        let child = async {
            match &mut self.child {
                Some(child) => child.wait().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            status = child => {
                let status = status.context("cannot wait for the command")?;
                self.child = None;
                if !self.is_interrupted {
                    self.exit_of_command = exit_of(status);
                }
                if !status.success() {
                    warn(&format!("the command exited with {status}"));
                }
                return Ok(false);
            }
        }
        self.is_interrupted = true;
        Ok(true)
    }
}
