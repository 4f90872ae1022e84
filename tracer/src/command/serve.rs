//! `serve`: metrics for Prometheus and OTLP, updated once per second.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use anyhow::Result;
use hyper::Uri;

use crate::{
    cli::host_only::{Listen, ServeArgs},
    host::own_usage::OwnUsage,
    message::{
        exit::Exit,
        failure::{Failure, describe},
        stderr::warn,
    },
    metrics::{
        Metrics,
        serve::{Collector, Exporter},
    },
    output::consumer::Consumer,
    run::{Run, RunMode},
    trace::{session::Session, time::Nanos},
    tracker::Tracker,
};

/// Time between updates in nanoseconds.
const PERIOD: Nanos = 1_000_000_000;

pub(crate) async fn run(args: ServeArgs, verbose: u8) -> Result<Exit> {
    let collector = args.otlp.map(|url| collector(url, args.otlp_interval)).transpose()?;
    let exporter = export(&args.listen, collector)?;
    let run = Run::live(args.live, &args.filter, verbose)?;
    warn(&format!("metrics are at http://{}/metrics", exporter.address));
    let mut output = Serve::new(Metrics::new(args.max_series), exporter);
    run.go(RunMode::UntilSignal, &mut output).await?;
    Ok(Exit::Done)
}

/// Starts to serve metrics and to push them to `collector`. The caller does so before it attaches
/// anything.
fn export(listen: &Listen, collector: Option<Collector>) -> Result<Exporter, Failure> {
    Exporter::start(&listen.addresses, collector).map_err(|error| {
        let remedy = "choose another address or port with --listen";
        Failure::cannot_run(format!("cannot listen on {}", listen.text), describe(&error), remedy)
    })
}

fn collector(url: Uri, every: Duration) -> Result<Collector, Failure> {
    Collector::new(url, every).map_err(|error| {
        let remedy = "use the OpenTelemetry syntax: name=value,name=value, with %2C for a comma";
        Failure::usage("cannot push metrics", error.to_string(), remedy)
    })
}

/// Adds snapshots to the metrics that the exporter serves.
struct Serve {
    /// The initial metrics; `None` once they are published.
    first: Option<Metrics>,
    /// The exporter; `None` once the trace has ended.
    exporter: Option<Exporter>,
    next: Nanos,
}

impl Serve {
    fn new(metrics: Metrics, exporter: Exporter) -> Self {
        Self { first: Some(metrics), exporter: Some(exporter), next: 0 }
    }

    fn update(&mut self, tracker: &mut Tracker) -> Result<(), Failure> {
        let snapshot = tracker.take_snapshot();
        let Some(exporter) = &self.exporter else { return Ok(()) };
        let take = |metrics: &mut Metrics| {
            metrics.take(&snapshot);
            metrics.used(OwnUsage::now());
        };
        match self.first.take() {
            Some(mut metrics) => {
                take(&mut metrics);
                exporter.publish(metrics)
            }
            None => exporter.update(take),
        }
    }
}

impl Consumer for Serve {
    fn begin(&mut self, session: &Arc<Session>) {
        if let Some(metrics) = &mut self.first {
            metrics.begin(session);
        }
        self.next = session.clock.monotonic_ns;
    }

    fn tick(&mut self, tracker: &mut Tracker) -> Result<ControlFlow<()>> {
        if tracker.now() >= self.next {
            self.next = tracker.now() + PERIOD;
            self.update(tracker)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn end(&mut self, tracker: &mut Tracker) -> Result<()> {
        self.update(tracker)?;
        if let Some(exporter) = self.exporter.take() {
            exporter.finish()?;
        }
        Ok(())
    }

    fn next_tick(&self) -> Option<Nanos> {
        Some(self.next)
    }
}
