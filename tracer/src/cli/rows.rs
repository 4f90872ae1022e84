//! Arguments for the rows of reports.

use clap::{Args, ValueEnum};
use synfin_common::state::TcpState;

use super::values::{reason, state};
use crate::{
    output::report::RowSelection,
    tcp::{close_reason::CloseReason, group_by::By},
};

/// Selection and grouping of rows.
#[derive(Clone, Debug, Args)]
pub(crate) struct RowsArgs {
    /// Group rows by role and this
    #[arg(long, value_enum, default_value_t)]
    pub(crate) by: Grouping,
    /// Print only rows with connections that closed for these reasons (reset_by_peer,connect_timeout …)
    #[arg(long, value_name = "REASONS", value_delimiter = ',', value_parser = reason)]
    pub(crate) reason: Vec<CloseReason>,
    /// Print only rows with connections in these states now (close-wait,time_wait …)
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = state)]
    pub(crate) state: Vec<TcpState>,
}

/// The key by which connections are grouped into rows, besides the role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Grouping {
    /// The service port
    #[default]
    Port,
    /// The service port, and the address that a client connects to
    Remote,
    /// The process that connects or listens
    Owner,
    /// The network namespace
    Netns,
}

impl From<Grouping> for By {
    fn from(grouping: Grouping) -> Self {
        match grouping {
            Grouping::Port => Self::Port,
            Grouping::Remote => Self::Remote,
            Grouping::Owner => Self::Owner,
            Grouping::Netns => Self::Netns,
        }
    }
}

impl From<RowsArgs> for RowSelection {
    fn from(args: RowsArgs) -> Self {
        Self { by: args.by.into(), reasons: args.reason, states: args.state }
    }
}
