//! The command line: the arguments and help of all commands.

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

/// Traces every TCP connection of this host from SYN to FIN.
///
/// Reports, per port, handshake latency, TIME_WAIT, and every connection that failed, with the
/// reason. Tracing needs root; reading a recording (--from) does not.
#[derive(Debug, Parser)]
#[command(name = "synfin", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
#[command(after_help = Exit::summary())]
pub struct Cli {
    /// The command; `top` if none is given.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Print the whole log of the verifier on rejection; with -vv, also the log of the eBPF programs
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
    /// Show a live view: drill from port to connection to timeline (the default)
    Top(TopArgs),
    /// Print statistics per port: once at the end, or every INTERVAL
    Report(ReportArgs),
    /// Print a line for every state change of every connection
    Trace(TraceArgs),
    /// Print a line for every connection that closes
    Connections(ConnectionsArgs),
    #[cfg(feature = "live")]
    /// Record every event to a file, to be read with --from
    Record(RecordArgs),
    #[cfg(feature = "live")]
    /// Serve metrics for Prometheus
    Serve(ServeArgs),
    /// Make a recording that can be shared: addresses and names replaced, statistics unchanged
    Anonymize(AnonymizeArgs),
    #[cfg(feature = "live")]
    /// Check what synfin can trace on this host, and test it with connections of its own
    Doctor(DoctorArgs),
    /// Find what is wrong with the TCP traffic, and what to change
    Diagnose(DiagnoseArgs),
    /// Compare two recordings or reports
    Compare(CompareArgs),
    /// Explain a finding, a close reason, a column or a TCP state
    Explain(ExplainArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Write manual pages to a directory
    #[command(hide = true)]
    Man(ManArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_valid() {
        Cli::command().debug_assert();
    }
}
