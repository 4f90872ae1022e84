//! The command line: the arguments of all commands.

pub(crate) mod commands;
#[cfg(feature = "live")]
pub(crate) mod host_only;
pub(crate) mod live;
pub(crate) mod output;
pub(crate) mod rows;
pub(crate) mod select;
pub(crate) mod source;
mod values;

use std::io::{self, Write};

use clap::{Parser, Subcommand};

use self::commands::{
    AnonymizeArgs, CompareArgs, CompletionsArgs, ConnectionsArgs, DiagnoseArgs, ExplainArgs,
    ManArgs, ReportArgs, TopArgs, TraceArgs,
};
#[cfg(feature = "live")]
use self::host_only::{DoctorArgs, RecordArgs, ServeArgs};
use crate::message::{escape::escape_control, exit::Exit};

/// Follows every TCP connection of this host from SYN to FIN.
///
/// Says per port how long handshakes take, how many connections sit in TIME_WAIT, and which ones
/// did not end well and why. Needs root to watch; reading a recording (--from) does not.
#[derive(Debug, Parser)]
#[command(name = "synfin", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
#[command(after_help = Exit::summary())]
pub struct Cli {
    /// What to do; `top` if nothing is said.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Say more: the verifier's whole log where it refuses, and with -vv what the kernel side logs
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(flatten)]
    pub(crate) top: TopArgs,
}

/// Parses the command line.
///
/// # Errors
///
/// The exit status, if there is nothing to run: help, the version or an error has been printed.
pub fn parse() -> Result<Cli, Exit> {
    Cli::try_parse().map_err(|error| {
        if error.use_stderr() {
            // The error quotes arguments, which may be untrusted.
            let lines: Vec<_> = error.render().to_string().lines().map(escape_control).collect();
            let _ = writeln!(io::stderr(), "{}", lines.join("\n"));
            Exit::Usage
        } else {
            // The reader of the help may have closed the pipe.
            let _ = error.print();
            Exit::Done
        }
    })
}

/// The commands with their arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A screen to watch connections on: per port, each connection, what is wrong (the default)
    Top(TopArgs),
    /// Figures per port: once at the end, or every INTERVAL
    Report(ReportArgs),
    /// A line for every state change of every connection
    Trace(TraceArgs),
    /// A line for every connection that ends
    Connections(ConnectionsArgs),
    #[cfg(feature = "live")]
    /// Write all that is seen to a file, to be read with --from
    Record(RecordArgs),
    #[cfg(feature = "live")]
    /// Serve metrics for Prometheus and whoever understands its format
    Serve(ServeArgs),
    /// Make a recording that can be shared: without addresses and names, with the same figures
    Anonymize(AnonymizeArgs),
    #[cfg(feature = "live")]
    /// Say what this host can and cannot do, and try it on connections of its own
    Doctor(DoctorArgs),
    /// Say what is wrong with the traffic, and what to do about it
    Diagnose(DiagnoseArgs),
    /// What has changed from one recording or report to another
    Compare(CompareArgs),
    /// What a reason, a figure or a TCP state means
    Explain(ExplainArgs),
    /// Completions of this command line for a shell
    Completions(CompletionsArgs),
    /// Write manual pages into a directory
    #[command(hide = true)]
    Man(ManArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
