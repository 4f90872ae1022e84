//! Requests to end a run before its source ends.

use std::{ffi::OsString, future::pending, sync::Arc};

use anyhow::{Result, anyhow};
use tokio::sync::Notify;

use super::{RunMode, live::Interrupts};
use crate::message::exit::Exit;

/// Waits until the user quits the screen, a signal arrives, or the command exits.
pub(super) struct Stop {
    viewer: Option<Arc<Notify>>,
    /// `None`: signals keep their default action, which ends the process; no data is lost.
    interrupts: Option<Interrupts>,
    is_requested: bool,
}

impl Stop {
    /// `has_command`: the run has a command, which it ends before a second signal ends the process.
    pub(super) fn new(is_live: bool, mode: &RunMode, has_command: bool) -> Result<Self> {
        let viewer = match mode {
            RunMode::Screen(closed) => Some(closed.clone()),
            RunMode::UntilSignal | RunMode::Quiet | RunMode::Once => None,
        };
        let listens = is_live || viewer.is_some();
        let interrupts = if listens { Interrupts::listen(!has_command)? } else { None };
        Ok(Self { viewer, interrupts, is_requested: false })
    }

    /// Starts a command, whose exit ends the run: a program and its arguments, or nothing.
    pub(super) fn start(&mut self, command: &[OsString]) -> Result<()> {
        self.interrupts.as_mut().map_or(Ok(()), |interrupts| interrupts.start(command))
    }

    /// Ends the command if it still runs. Returns its result, or that of the run if that ended first.
    pub(super) async fn end_command(&mut self) -> Result<Exit> {
        match &mut self.interrupts {
            Some(interrupts) => interrupts.end_command().await,
            None => Ok(Exit::Done),
        }
    }

    /// Whether the user has requested the end, by a key or a signal.
    pub(super) fn is_requested(&self) -> bool {
        self.is_requested
    }

    /// Waits for a request to end the run.
    ///
    /// # Errors
    ///
    /// The user requests the end a second time, which ends the run at once; or signals or the exit of
    /// the command cannot be awaited.
    pub(super) async fn requested(&mut self) -> Result<()> {
        let viewer = async {
            match &self.viewer {
                Some(viewer) => viewer.notified().await,
                None => pending().await,
            }
        };
        let interrupts = async {
            match &mut self.interrupts {
                Some(interrupts) => interrupts.is_signal().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = viewer => {}
            is_signal = interrupts => {
                if !is_signal? {
                    return Ok(());
                }
            }
        }
        if std::mem::replace(&mut self.is_requested, true) {
            return Err(anyhow!("interrupted a second time: exiting without a report"));
        }
        Ok(())
    }
}
