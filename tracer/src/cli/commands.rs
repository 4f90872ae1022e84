//! The arguments of each command that reads recordings as well.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use clap_complete::Shell;
use synfin_common::state::TcpState;

use super::{
    output::{FormArgs, NumericArgs, OutputArgs},
    rows::{Grouping, RowsArgs},
    source::{RunArgs, SourceArgs},
    values::{interval, reason, state},
};
use crate::{analysis::conditions::FailOn, tcp::close_reason::CloseReason};

/// Arguments of `top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) rows: RowsArgs,
    #[command(flatten)]
    pub(crate) numeric: NumericArgs,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Seconds between reports (or 500ms, 2m …); without it, one report at the end
    #[arg(value_parser = interval)]
    pub(crate) interval: Option<Duration>,
    /// Stop after this many reports
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Look at all sockets once, and report what is so now
    #[arg(long, conflicts_with_all = ["interval", "from", "duration", "run"])]
    pub(crate) once: bool,
    /// Exit with 1 if a figure is so in any report: abnormal>0, client.failures.connect_timeout>=1,
    /// server:8080.handshake.clean.p99_us>50000; may be given several times
    #[arg(long, value_name = "CONDITION")]
    pub(crate) fail_on: Vec<FailOn>,
    #[command(flatten)]
    pub(crate) rows: RowsArgs,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// Arguments of `trace`.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// Only changes from or to these states (established,fin-wait-1,CLOSE_WAIT …)
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = state)]
    pub(crate) state: Vec<TcpState>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// Arguments of `connections`.
#[derive(Debug, Args)]
pub(crate) struct ConnectionsArgs {
    /// List the living connections instead: now, or at the end of a recording
    #[arg(long, conflicts_with = "slow")]
    pub(crate) open: bool,
    /// Instead, print handshakes that took at least this long (100ms …), as they get through
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    pub(crate) slow: Option<Duration>,
    /// Only those that ended for these reasons (reset_by_peer,connect_timeout …)
    #[arg(long, value_name = "REASONS", value_delimiter = ',', value_parser = reason, conflicts_with_all = ["open", "slow"])]
    pub(crate) reason: Vec<CloseReason>,
    /// Only those in these states; with --open
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = state, requires = "open")]
    pub(crate) state: Vec<TcpState>,
    /// Only those that have lived at least this long (10s …)
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    pub(crate) min_age: Option<Duration>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// Arguments of `anonymize`.
#[derive(Debug, Args)]
pub(crate) struct AnonymizeArgs {
    /// The recording to read
    #[arg(value_name = "IN")]
    pub(crate) from: PathBuf,
    /// The file to write, readable for its owner only
    #[arg(value_name = "OUT")]
    pub(crate) to: PathBuf,
    #[arg(long, value_name = "FILE", help = KEY_FILE)]
    pub(crate) key_file: Option<PathBuf>,
}

/// Arguments of `diagnose`.
#[derive(Debug, Args)]
pub(crate) struct DiagnoseArgs {
    #[command(flatten)]
    pub(crate) numeric: NumericArgs,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) output: FormArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// What was before: a recording, a flight recorder's directory, or what `report -o json` wrote
    #[arg(value_name = "BEFORE")]
    pub(crate) before: PathBuf,
    /// What is after: the same
    #[arg(value_name = "AFTER")]
    pub(crate) after: PathBuf,
    /// What makes a row of a recording, besides the role
    #[arg(long, value_enum, default_value_t)]
    pub(crate) by: Grouping,
    #[command(flatten)]
    pub(crate) output: FormArgs,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A reason's id, a figure's key or heading, a TCP state; without any, a list of all
    #[arg(value_name = "WORD")]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) output: FormArgs,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The directory, which is made if it does not exist
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) directory: PathBuf,
}

/// Of two commands.
pub(super) const KEY_FILE: &str = "Take the key from this file, any secret of at least 16 bytes, so that recordings match each other; without it, it is random and forgotten";
