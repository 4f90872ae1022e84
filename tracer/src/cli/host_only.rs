//! Arguments of the commands that trace or examine this host and read no recordings.

use std::{
    ffi::OsString,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

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

#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// The file to write, readable by its owner only; a directory with --keep or --max-size
    pub(crate) file: PathBuf,
    /// Overwrite the file if it exists
    #[arg(long, conflicts_with_all = ["keep", "max_size"])]
    pub(crate) force: bool,
    /// Write pseudonyms instead of addresses and names: see `synfin anonymize`
    #[arg(long)]
    pub(crate) anonymize: bool,
    #[arg(long, value_name = "FILE", requires = "anonymize", help = KEY_FILE)]
    pub(crate) key_file: Option<PathBuf>,
    /// Record continuously to files in a directory, and delete those older than this (1h …)
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    pub(crate) keep: Option<Duration>,
    /// Record continuously, and delete the oldest files beyond this total size (1G …)
    #[arg(long, value_name = "BYTES", value_parser = max_size)]
    pub(crate) max_size: Option<u64>,
    #[command(flatten)]
    pub(crate) live: LiveArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Run this command, and stop when it exits; if the run ends first, it ends the command
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

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address or host name to listen on: localhost is reachable from this host only, and `:9764` on
    /// all addresses
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9764", value_parser = listen)]
    pub(crate) listen: Listen,
    /// Maximum number of time series; ports beyond it are combined as port="other"
    #[arg(long, value_name = "N", value_parser = series, default_value_t = DEFAULT_SERIES)]
    pub(crate) max_series: usize,
    /// Also push metrics by OTLP to this collector (http://127.0.0.1:4318); see docs/metrics.md
    #[arg(long, value_name = "URL", value_parser = serve::url)]
    pub(crate) otlp: Option<Uri>,
    /// Time between pushes
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "10s", requires = "otlp")]
    pub(crate) otlp_interval: Duration,
    #[command(flatten)]
    pub(crate) live: LiveArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Measure the event rate for this long, to recommend a ring buffer size
    #[arg(long = "for", id = "duration", value_name = "DURATION", value_parser = interval, default_value = "2s")]
    pub(crate) duration: Duration,
    #[command(flatten)]
    pub(crate) btf: BtfArgs,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: DoctorFormat,
}

/// Output format of `doctor`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DoctorFormat {
    /// One line per check
    #[default]
    Table,
    /// One JSON object
    Json,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    /// As given by the user.
    pub(crate) text: String,
    /// The first one that can be had is used.
    pub(crate) addresses: Vec<SocketAddr>,
}

fn listen(text: &str) -> Result<Listen, String> {
    let addresses = match text.strip_prefix(':') {
        Some(port) => {
            let port = port.parse().map_err(|_| "not a port after the colon".to_owned())?;
            // The first one includes IPv4, unless this host has no IPv6.
            vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
        }
        None => match text.to_socket_addrs() {
            Ok(addresses) => addresses.collect(),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return Err("expected ADDRESS:PORT, such as 127.0.0.1:9764, [::1]:9764, localhost:9764 or :9764".into());
            }
            Err(_) => return Err("no address has this name".into()),
        },
    };
    Ok(Listen { text: text.to_owned(), addresses })
}

fn series(text: &str) -> Result<usize, String> {
    let series = text.parse().map_err(|_| "not a number of series".to_owned())?;
    if series < Metrics::LEAST_SERIES {
        return Err(format!(
            "must be at least {}, which leaves room for one port",
            Metrics::LEAST_SERIES
        ));
    }
    Ok(series)
}

fn max_size(text: &str) -> Result<u64, String> {
    let bytes = size(text)?;
    if bytes < LEAST_SIZE {
        return Err("must be at least 1M".into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_as_numbers_names_or_only_a_port() {
        let addresses = |text| listen(text).map(|listen| listen.addresses);
        let one = |address: &str| Ok(vec![address.parse().unwrap()]);
        assert_eq!(addresses("127.0.0.1:9764"), one("127.0.0.1:9764"));
        assert_eq!(addresses("[::1]:80"), one("[::1]:80"));
        let all = ["[::]:9764", "0.0.0.0:9764"].map(|address| address.parse().unwrap());
        assert_eq!(addresses(":9764"), Ok(all.into()));
        assert!(addresses("localhost:9764").unwrap().iter().all(|at| at.ip().is_loopback()));
        for wrong in [
            "9764",
            "localhost",
            "",
            ":",
            ":70000",
            "127.0.0.1",
            "127.0.0.1:x",
            "no.such.invalid:1",
        ] {
            assert!(addresses(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn limits_of_a_flight_recorder_are_parsed_with_their_units() {
        assert_eq!(max_size("1M"), Ok(LEAST_SIZE));
        assert_eq!(max_size("3G"), Ok(3 << 30));
        assert_eq!(max_size("99999999999G"), Ok(u64::MAX));
        assert!(max_size("1000K").is_err() && max_size("0").is_err() && max_size("-1").is_err());
    }
}
