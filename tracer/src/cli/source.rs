//! Arguments for the source of the data: this host or a recording.

use std::{ffi::OsString, path::PathBuf};

use anyhow::Result;
use clap::Args;

use super::{live::LiveArgs, select::FilterArgs};
use crate::{message::failure::cannot_write, output::stdout::Stdout};

/// The source of the data: this host or a recording.
#[derive(Debug, Default, Args)]
pub(crate) struct SourceArgs {
    /// Read this recording, a file or a directory, instead of tracing this host
    #[arg(long, value_name = "FILE", conflicts_with = "record")]
    pub(crate) from: Option<PathBuf>,
    /// Also record every event to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Overwrite that file if it exists
    #[arg(long, requires = "record")]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) live: LiveArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

impl SourceArgs {
    /// Arguments that read a whole recording, without filters.
    pub(crate) fn from_file(file: PathBuf) -> Self {
        Self { from: Some(file), ..Self::default() }
    }

    /// Standard output of a run with this source.
    ///
    /// # Errors
    ///
    /// The thread that writes the output of a live trace cannot be started.
    pub(crate) fn stdout(&self) -> Result<Stdout> {
        match self.from {
            Some(_) => Ok(Stdout::direct()),
            None => Stdout::live().map_err(cannot_write),
        }
    }

    /// The same with these filters.
    pub(crate) fn filtered(self, filter: FilterArgs) -> Self {
        Self { filter, ..self }
    }
}

/// The command to run while this host is traced.
#[derive(Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// Run this command, and stop when it exits; if the run ends first, it ends the command
    #[arg(last = true, id = "run", value_name = "COMMAND", conflicts_with = "from")]
    pub(crate) command: Vec<OsString>,
}
