//! Where frames come from: this host or a recording.

use std::{ffi::OsString, path::PathBuf};

use clap::Args;

use super::{live::LiveArgs, select::FilterArgs};

/// Where the data comes from.
#[derive(Debug, Default, Args)]
pub(crate) struct SourceArgs {
    /// Read this recording, a file or a directory, instead of watching this host
    #[arg(long, value_name = "FILE", conflicts_with = "record")]
    pub(crate) from: Option<PathBuf>,
    /// Also write all that is seen to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) live: LiveArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

impl SourceArgs {
    /// This recording, all of it.
    pub(crate) fn from_file(file: PathBuf) -> Self {
        Self { from: Some(file), ..Self::default() }
    }
}

/// A command to run, where the data may come from a recording instead.
#[derive(Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// Run this command, and stop when it ends
    #[arg(last = true, id = "run", value_name = "COMMAND", conflicts_with = "from")]
    pub(crate) command: Vec<OsString>,
}
