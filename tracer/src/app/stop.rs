//! What ends a run before its source does.

use std::{ffi::OsString, future::pending, sync::Arc};

use anyhow::{Result, anyhow};
use tokio::sync::Notify;

use super::live::Interrupts;

/// Waits for the user of a screen, a signal, or the end of a command.
pub(super) struct Stop {
    viewer: Option<Arc<Notify>>,
    /// `None`: a signal ends the process, as nothing is lost.
    interrupts: Option<Interrupts>,
    /// A command that has not been started yet.
    command: Vec<OsString>,
    /// The user has asked for the end, by a key or a signal.
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

    /// Starts the command, once.
    pub(super) fn start_command(&mut self) -> Result<()> {
        let command = std::mem::take(&mut self.command);
        self.interrupts.as_mut().map_or(Ok(()), |interrupts| interrupts.start(&command))
    }

    /// Returns when the run is to end.
    ///
    /// # Errors
    ///
    /// The user asks a second time, which ends it at once.
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
