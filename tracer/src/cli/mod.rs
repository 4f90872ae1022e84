//! The command line: the arguments of all commands.

#[cfg(feature = "live")]
mod host_only;
pub(crate) mod select;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
#[cfg(feature = "live")]
pub(crate) use host_only::{DoctorArgs, DoctorFormat, RecordArgs, ServeArgs};
pub(crate) use select::FilterArgs;
use synfin_common::state::TcpState;

use crate::{
    analysis::conditions::FailOn,
    message::{escape::escape_control, exit::Exit},
    output::Format,
    record::flight::Limits,
    tcp::{close_reason::CloseReason, group_by::By, state},
};

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

/// Arguments of `top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) rows: RowsArgs,
    /// Do not tell ports by the names of their services
    #[arg(short, long)]
    pub(crate) numeric: bool,
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

/// Help of `--key-file`, which two commands have.
const KEY_FILE: &str = "Take the key from this file, any secret of at least 16 bytes, so that recordings match each other; without it, it is random and forgotten";

/// Selection and grouping of rows.
#[derive(Clone, Debug, Args)]
pub(crate) struct RowsArgs {
    /// What makes a row, besides the role
    #[arg(long, value_enum, default_value_t)]
    pub(crate) by: Grouping,
    /// Only rows with connections that ended for these reasons (reset_by_peer,connect_timeout …)
    #[arg(long, value_name = "REASONS", value_delimiter = ',', value_parser = reason)]
    pub(crate) reason: Vec<CloseReason>,
    /// Only rows with connections in these states now (close-wait,time_wait …)
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

/// The source of the kernel's BTF.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TypesArgs {
    /// Take the kernel's type information from this copy of /sys/kernel/btf/vmlinux, where that is not shown
    #[arg(long, value_name = "FILE")]
    pub(crate) btf: Option<PathBuf>,
}

/// Arguments of `diagnose`.
#[derive(Debug, Args)]
pub(crate) struct DiagnoseArgs {
    /// Do not tell ports by the names of their services
    #[arg(short, long)]
    pub(crate) numeric: bool,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Form,
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
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Form,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A reason's id, a figure's key or heading, a TCP state; without any, a list of all
    #[arg(value_name = "WORD")]
    pub(crate) words: Vec<String>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Form,
}

/// Output format of the commands that print text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Paragraphs, for the eyes
    #[default]
    Text,
    /// One JSON object a line
    Json,
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

/// The source of the data: this host or a recording.
#[derive(Debug, Default, Args)]
pub(crate) struct SourceArgs {
    /// Read this recording, a file or a directory, instead of watching this host
    #[arg(long, value_name = "FILE", conflicts_with = "record")]
    pub(crate) from: Option<PathBuf>,
    /// Also write all that is seen to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Limits of a flight recorder, for which `record` is a directory; `None`: it is a file.
    #[arg(skip)]
    pub(crate) flight: Option<Limits>,
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
}

/// Options of live tracing.
#[derive(Clone, Debug, Args)]
pub(crate) struct LiveArgs {
    /// Stop after this time (10s, 5m …)
    #[arg(long = "for", id = "duration", value_name = "DURATION", value_parser = interval)]
    pub(crate) duration: Option<Duration>,
    /// Size of the buffer between kernel and synfin: a power of two (16M …)
    #[arg(long, value_name = "BYTES", value_parser = ring_size, default_value = DEFAULT_RING)]
    pub(crate) ring_size: u32,
    /// Most connections that are kept at a time; of more, the quietest are lost from sight
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value_t = DEFAULT_CONNECTIONS)]
    pub(crate) max_connections: u32,
    /// Do not attach programs to the kernel's own functions (fentry), even where it allows them:
    /// see host.knowledge in docs/columns.md for what they show
    #[arg(long)]
    pub(crate) tracepoints_only: bool,
    #[command(flatten)]
    pub(crate) types: TypesArgs,
    /// Surveys follow each other without rest, whatever they cost: for tests of the survey
    #[arg(long, hide = true)]
    pub(crate) survey_always: bool,
    /// The main hook is attached as on kernels that preempt programs on tracepoints (7.0 and later):
    /// for tests of that on others
    #[arg(long, hide = true)]
    pub(crate) by_event: bool,
}

impl Default for LiveArgs {
    fn default() -> Self {
        Self {
            duration: None,
            ring_size: crate::trace::ring_size::DEFAULT_RING_BYTES,
            max_connections: DEFAULT_CONNECTIONS,
            tracepoints_only: false,
            types: TypesArgs::default(),
            survey_always: false,
            by_event: false,
        }
    }
}

/// The command to run while this host is traced.
#[derive(Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// Run this command, and stop when it ends
    #[arg(last = true, id = "run", value_name = "COMMAND", conflicts_with = "from")]
    pub(crate) command: Vec<OsString>,
}

/// Options of the output.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputArgs {
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// All columns
    #[arg(short, long)]
    pub(crate) wide: bool,
    /// No heading and no footer
    #[arg(short = 'H', long)]
    pub(crate) no_header: bool,
}

/// [`crate::trace::ring_size::DEFAULT_RING_BYTES`] in the notation of the command line.
const DEFAULT_RING: &str = "16M";

/// The limit of connections in [`crate::tracker::Limits::default`].
const DEFAULT_CONNECTIONS: u32 = 1 << 20;

/// Parses a duration: a number of seconds, or numbers with units (`500ms`, `2m`).
fn interval(text: &str) -> Result<Duration, String> {
    let duration = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?,
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string())?,
    };
    if duration.is_zero() {
        return Err("must be more than zero".into());
    }
    Ok(duration)
}

/// Parses a TCP state in any of the usual spellings: FIN_WAIT1, fin-wait-1, fin_wait_1.
fn state(text: &str) -> Result<TcpState, String> {
    state::named(text)
        .ok_or_else(|| format!("the states are {}", TcpState::ALL.map(TcpState::name).join(", ")))
}

fn reason(text: &str) -> Result<CloseReason, String> {
    let wanted = text.to_lowercase().replace('-', "_");
    CloseReason::from_id(&wanted).ok_or_else(|| "`synfin explain` lists the reasons".to_owned())
}

/// Parses a size: a number of bytes, or one with the suffix K, M or G (powers of 1024).
fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| "not a number of bytes".to_owned())?;
    Ok(number.saturating_mul(1 << shift))
}

fn ring_size(text: &str) -> Result<u32, String> {
    let bytes = u32::try_from(size(text)?)
        .map_err(|_| "more than a ring buffer can have, which is 2G".to_owned())?;
    if !bytes.is_power_of_two() || bytes < 4096 {
        return Err("must be a power of two, from 4K to 2G".into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::{trace::ring_size::DEFAULT_RING_BYTES, tracker};

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn limits_are_the_trackers_unless_others_are_asked_for() {
        assert_eq!(DEFAULT_CONNECTIONS as usize, tracker::Limits::default().connections);
    }

    #[test]
    fn states_are_read_in_every_spelling() {
        for text in ["FIN_WAIT1", "fin-wait-1", "fin_wait_1", "FinWait1"] {
            assert_eq!(state(text), Ok(TcpState::FinWait1), "{text}");
        }
        assert_eq!(state("ESTAB"), Ok(TcpState::Established));
        assert_eq!(state("TIME-WAIT"), Ok(TcpState::TimeWait));
        assert!(state("open").unwrap_err().contains("close_wait"));
        assert_eq!(reason("reset-by-peer"), Ok(CloseReason::ResetByPeer));
    }

    #[test]
    fn sizes_and_durations_are_read_as_people_write_them() {
        assert_eq!(ring_size("16M"), Ok(16 << 20));
        assert_eq!(ring_size(DEFAULT_RING), Ok(DEFAULT_RING_BYTES));
        assert_eq!(ring_size("4096"), Ok(4096));
        assert!(ring_size("3M").is_err() && ring_size("4G").is_err() && ring_size("M").is_err());
        assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(interval("2m"), Ok(Duration::from_secs(120)));
        assert!(interval("0").is_err() && interval("-1").is_err() && interval("soon").is_err());
    }
}
