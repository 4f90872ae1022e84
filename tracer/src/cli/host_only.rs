//! Arguments of the commands that trace or examine this host and read no recordings.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use hyper::Uri;

use super::{
    commands::KEY_FILE,
    live::{BtfArgs, LiveArgs},
    select::FilterArgs,
    values::{interval, size},
};
use crate::{
    metrics::{DEFAULT_SERIES, Metrics, serve},
    record::flight::{LEAST_SIZE, Limits},
};

/// Arguments of `record`.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// The file to write, readable for its owner only; a directory with --keep or --max-size
    pub(crate) file: PathBuf,
    /// Write no addresses and names, but what stands for them: see `synfin anonymize`
    #[arg(long)]
    pub(crate) anonymize: bool,
    #[arg(long, value_name = "FILE", requires = "anonymize", help = KEY_FILE)]
    pub(crate) key_file: Option<PathBuf>,
    /// Record without end to files in a directory, and delete what is older than this (1h …)
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    pub(crate) keep: Option<Duration>,
    /// The same, and delete the oldest file when all have more bytes than this (1G …)
    #[arg(long, value_name = "BYTES", value_parser = max_size)]
    pub(crate) max_size: Option<u64>,
    #[command(flatten)]
    pub(crate) live: LiveArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Run this command, and stop when it ends
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

impl RecordArgs {
    /// Limits of the flight recorder; `None`: the recording is a single file.
    pub(crate) fn flight(&self) -> Option<Limits> {
        let Self { keep, max_size, .. } = *self;
        (keep.is_some() || max_size.is_some()).then_some(Limits { keep, max_size })
    }
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen; nobody else can reach 127.0.0.1
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9764")]
    pub(crate) listen: SocketAddr,
    /// Most series; ports that find no room are put together as port="other"
    #[arg(long, value_name = "N", value_parser = series, default_value_t = DEFAULT_SERIES)]
    pub(crate) max_series: usize,
    /// Also push them by OTLP to this OpenTelemetry collector (http://127.0.0.1:4318), with the headers
    /// and attributes that OTEL_EXPORTER_OTLP_HEADERS and OTEL_RESOURCE_ATTRIBUTES name
    #[arg(long, value_name = "URL", value_parser = serve::url)]
    pub(crate) otlp: Option<Uri>,
    /// How often they are pushed
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "10s", requires = "otlp")]
    pub(crate) otlp_interval: Duration,
    #[command(flatten)]
    pub(crate) live: LiveArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

/// Arguments of `doctor`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Watch this host for so long, to tell the ring buffer's size
    #[arg(long = "for", id = "duration", value_name = "DURATION", value_parser = interval, default_value = "2s")]
    pub(crate) duration: Duration,
    #[command(flatten)]
    pub(crate) btf: BtfArgs,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: DoctorFormat,
}

/// Output format of `doctor`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DoctorFormat {
    /// A line for every check
    #[default]
    Table,
    /// One JSON object
    Json,
}

fn series(text: &str) -> Result<usize, String> {
    let series = text.parse().map_err(|_| "not a number of series".to_owned())?;
    if series < Metrics::LEAST_SERIES {
        return Err(format!("a port of its own takes at least {}", Metrics::LEAST_SERIES));
    }
    Ok(series)
}

fn max_size(text: &str) -> Result<u64, String> {
    let bytes = size(text)?;
    if bytes < LEAST_SIZE {
        return Err("too little to hold anything: must be at least 1M".into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_a_flight_recorder_are_read_as_people_write_them() {
        assert_eq!(max_size("1M"), Ok(LEAST_SIZE));
        assert_eq!(max_size("3G"), Ok(3 << 30));
        assert_eq!(max_size("99999999999G"), Ok(u64::MAX));
        assert!(max_size("1000K").is_err() && max_size("0").is_err() && max_size("-1").is_err());
    }
}
