//! Live tracing of this host: attaching to the kernel, the commands that need the kernel, signals,
//! and the command that synfin runs.

use std::{ffi::OsString, io, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use hyper::Uri;
use tokio::{
    process::Child,
    signal::unix::{Signal, SignalKind, signal},
};

use super::{Run, cannot_write};
use crate::{
    cli::{DoctorArgs, FilterArgs, LiveArgs, RecordArgs, RunArgs, ServeArgs, SourceArgs},
    command::{Doctor, Record, Serve, anonymize::anonymizer},
    message::{
        exit::Exit,
        failure::{Failure, describe},
        stderr::{warn, warn_lines},
    },
    metrics::{
        Metrics,
        serve::{Collector, Exporter},
    },
    source::{Live, Options, Source},
};

/// Attaches the eBPF programs to the kernel of this host.
pub(super) fn attach(args: LiveArgs, filter: &FilterArgs, verbose: u8) -> Result<Box<dyn Source>> {
    Ok(Box::new(Live::attach(Options {
        ring_bytes: args.ring_size,
        survey_always: args.survey_always,
        by_event: args.by_event,
        filter: filter.of_this_host()?,
        tracepoints_only: args.tracepoints_only,
        verbose,
        btf: args.types.btf,
    })?))
}

pub(super) async fn record(args: RecordArgs, verbose: u8) -> Result<()> {
    let source = SourceArgs {
        from: None,
        record: Some(args.file.clone()),
        flight: args.flight(),
        live: args.live,
        filter: args.filter,
    };
    let anonymizer = args.anonymize.then(|| anonymizer(args.key_file.as_deref())).transpose()?;
    let run = Run::new(source, RunArgs { command: args.command }, verbose)?;
    Run { anonymizer, ..run }.go(&mut Record::new(args.file)).await
}

pub(super) async fn serve(args: ServeArgs, verbose: u8) -> Result<()> {
    let collector = args.otlp.map(|url| collector(url, args.otlp_interval)).transpose()?;
    let exporter = export(args.listen, collector)?;
    let (live, filter) = (args.live, args.filter);
    let source = SourceArgs { live, filter, ..SourceArgs::default() };
    let run = Run::new(source, RunArgs::default(), verbose)?;
    warn(&format!("metrics are at http://{}/metrics", exporter.address));
    run.go(&mut Serve::new(Metrics::new(args.max_series), exporter)).await
}

/// Starts to serve metrics at `address` and to push them to `collector`. The caller does so before
/// it attaches anything.
fn export(address: SocketAddr, collector: Option<Collector>) -> Result<Exporter> {
    Ok(Exporter::start(address, collector).map_err(|error| {
        let remedy = "another address or port can be given with --listen";
        Failure::cannot_run(format!("cannot listen on {address}"), describe(&error), remedy)
    })?)
}

fn collector(url: Uri, every: Duration) -> Result<Collector> {
    Ok(Collector::new(url, every).map_err(|error| {
        let remedy = "write it as OpenTelemetry does: name=value,name=value, with %2C for a comma";
        Failure::usage("cannot push metrics", error.to_string(), remedy)
    })?)
}

/// Examines this host, then runs the self-test, which makes connections of its own.
pub(super) async fn doctor(args: DoctorArgs, verbose: u8) -> Result<Exit> {
    let mut findings = Doctor::examine(args.duration, args.types.btf.clone()).await;
    while findings.wants_self_test() {
        let live = LiveArgs { types: args.types.clone(), ..LiveArgs::default() };
        let source = SourceArgs { live, ..SourceArgs::default() };
        let run = Run { silent: true, ..Run::new(source, RunArgs::default(), verbose)? };
        run.go(&mut findings.self_test()).await?;
    }
    findings.write(args.output, &mut io::stdout().lock()).map_err(cannot_write)?;
    if let Some(failure) = findings.refusal() {
        warn_lines(&failure.lines(verbose > 0));
    }
    Ok(if findings.are_good() { Exit::Done } else { Exit::CannotRun })
}

/// SIGINT, SIGTERM, and the exit of the command that synfin runs.
pub(super) struct Interrupts {
    signals: [Signal; 2],
    child: Option<Child>,
}

impl Interrupts {
    pub(super) fn listen() -> Result<Option<Self>> {
        let listen =
            || io::Result::Ok([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?]);
        let signals = listen().context("cannot listen for signals")?;
        Ok(Some(Self { signals, child: None }))
    }

    /// Starts a command, whose exit counts as an interrupt. Does nothing if `command` is empty.
    pub(super) fn start(&mut self, command: &[OsString]) -> Result<()> {
        if let Some((program, args)) = command.split_first() {
            let child = tokio::process::Command::new(program).args(args).spawn();
            let child = child.map_err(|error| {
                let what = format!("cannot run {}", program.display());
                Failure::usage(what, describe(&error), "check the command after `--`")
            });
            self.child = Some(child?);
        }
        Ok(())
    }

    /// Waits for an interrupt. Returns `true` for a signal and `false` if the command exited.
    pub(super) async fn is_signal(&mut self) -> Result<bool> {
        let [interrupt, terminate] = &mut self.signals;
        let child = async {
            match &mut self.child {
                Some(child) => child.wait().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            status = child => {
                let status = status.context("cannot wait for the command")?;
                self.child = None;
                if !status.success() {
                    warn(&format!("the command ended with {status}"));
                }
                return Ok(false);
            }
        }
        Ok(true)
    }
}
