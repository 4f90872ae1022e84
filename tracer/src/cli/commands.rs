//! Arguments of the commands that read recordings.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use clap_complete::Shell;
use synfin_common::state::TcpState;

use super::{
    output::{FormArgs, NumericArgs, OutputArgs},
    rows::{Grouping, RowsArgs},
    select::FilterArgs,
    source::{RunArgs, SourceArgs},
    values::{interval, reason, severity, state},
};
use crate::{analysis::condition::Condition, findings::Severity, tcp::close_reason::CloseReason};

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

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Seconds between reports (or 500ms, 2m …); one report at the end by default
    #[arg(value_parser = interval)]
    pub(crate) interval: Option<Duration>,
    /// Stop after this many reports
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Scan all sockets once and report their present state
    #[arg(long, conflicts_with_all = ["interval", "from", "duration", "run"])]
    pub(crate) once: bool,
    /// Exit with status 1 if CONDITION holds in any report (bad>0, server:8080.bad>0); may be repeated
    #[arg(long, value_name = "CONDITION")]
    pub(crate) fail_on: Vec<Condition>,
    #[command(flatten)]
    pub(crate) rows: RowsArgs,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// Print only changes from or to these states (established,fin-wait-1,CLOSE_WAIT …)
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = state)]
    pub(crate) state: Vec<TcpState>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ConnectionsArgs {
    /// Print open connections instead: those open now, or at the end of a recording
    #[arg(long, conflicts_with = "slow")]
    pub(crate) open: bool,
    /// Print connections whose handshake took at least DURATION (100ms …), when established
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    pub(crate) slow: Option<Duration>,
    /// Print only connections that closed for these reasons (reset_by_peer,connect_timeout …)
    #[arg(long, value_name = "REASONS", value_delimiter = ',', value_parser = reason, conflicts_with_all = ["open", "slow"])]
    pub(crate) reason: Vec<CloseReason>,
    /// Print only connections in these states; with --open
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = state, requires = "open")]
    pub(crate) state: Vec<TcpState>,
    /// Print only connections that are at least this old (10s …)
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    pub(crate) min_age: Option<Duration>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AnonymizeArgs {
    /// The recording to read: a file, or the directory of a flight recorder
    #[arg(value_name = "IN")]
    pub(crate) from: PathBuf,
    /// The file to write, readable by its owner only; a new directory if IN is one
    #[arg(value_name = "OUT")]
    pub(crate) to: PathBuf,
    /// Overwrite OUT, or files in it, if it exists
    #[arg(long)]
    pub(crate) force: bool,
    #[arg(long, value_name = "FILE", help = KEY_FILE)]
    pub(crate) key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DiagnoseArgs {
    /// Exit with status 1 if a finding is at least this urgent: critical, warning or notice
    #[arg(long, value_name = "SEVERITY", value_parser = severity)]
    pub(crate) fail_on: Option<Severity>,
    #[command(flatten)]
    pub(crate) numeric: NumericArgs,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) output: FormArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// A recording, the directory of a flight recorder, or output of `report -o json`
    #[arg(value_name = "BEFORE")]
    pub(crate) before: PathBuf,
    /// What to compare with BEFORE, in any of these forms
    #[arg(value_name = "AFTER")]
    pub(crate) after: PathBuf,
    /// Group the rows of a recording by role and this
    #[arg(long, value_enum, default_value_t)]
    pub(crate) by: Grouping,
    /// Exit with status 1 if a change is at least this urgent: a new finding as it is itself, critical if
    /// more connections fail or end abnormally, warning if anything else became worse
    #[arg(long, value_name = "SEVERITY", value_parser = severity)]
    pub(crate) fail_on: Option<Severity>,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    #[command(flatten)]
    pub(crate) output: FormArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Id of a close reason, key or heading of a column, or TCP state; lists all if none is given
    #[arg(value_name = "WORD")]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) output: FormArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The directory; it is created if it does not exist
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) directory: PathBuf,
}

/// Help of `--key-file`, which two commands have.
pub(super) const KEY_FILE: &str = "Read the key from FILE (16 bytes or more), to share pseudonyms among recordings; random by default";
