//! Requests to end a run before its source ends.

use std::{ffi::OsString, future::pending, sync::Arc};

use anyhow::{Result, anyhow};
use tokio::sync::Notify;

use super::live::Interrupts;

/// Waits until the user quits the screen, a signal arrives, or the command exits.
pub(super) struct Stop {
    viewer: Option<Arc<Notify>>,
    /// `None`: signals keep their default action, which ends the process; no data is lost.
    interrupts: Option<Interrupts>,
    /// The command to start: a program and its arguments. Empty if there is none, or once started.
    command: Vec<OsString>,
    /// Whether the user has requested the end, by a key or a signal.
    pub(super) asked: bool,
}

impl Stop {
    pub(super) fn new(
        is_live: bool,
        viewer: Option<Arc<Notify>>,
        command: Vec<OsString>,
    ) -> Result<Self> {
        let listens = is_live || viewer.is_some();
        let interrupts = if listens { Interrupts::listen()? } else { None };
        Ok(Self { viewer, interrupts, command, asked: false })
    }

    /// Starts the command on the first call; later calls do nothing.
    pub(super) fn start_command(&mut self) -> Result<()> {
        let command = std::mem::take(&mut self.command);
        self.interrupts.as_mut().map_or(Ok(()), |interrupts| interrupts.start(&command))
    }

    /// Waits for a request to end the run.
    ///
    /// # Errors
    ///
    /// The user requests the end a second time, which ends the run at once; or the exit of the
    /// command cannot be awaited.
    pub(super) async fn asked(&mut self) -> Result<()> {
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
        if std::mem::replace(&mut self.asked, true) {
            return Err(anyhow!("interrupted a second time: ended without a report"));
        }
        Ok(())
    }
}
