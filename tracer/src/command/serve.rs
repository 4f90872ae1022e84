//! `serve`: metrics for Prometheus and OTLP, updated once per second.

use std::{io, ops::ControlFlow};

use crate::{
    metrics::{Metrics, serve::Exporter},
    output::consumer::Consumer,
    trace::{session::Session, time::Nanos},
    tracker::Tracker,
};

const PERIOD: Nanos = 1_000_000_000;

/// Adds snapshots to the metrics that the exporter serves.
pub(crate) struct Serve {
    /// The initial metrics; `None` once they are published.
    first: Option<Metrics>,
    /// The exporter; `None` once the trace has ended.
    exporter: Option<Exporter>,
    next: Nanos,
}

impl Serve {
    pub(crate) fn new(metrics: Metrics, exporter: Exporter) -> Self {
        Self { first: Some(metrics), exporter: Some(exporter), next: 0 }
    }

    fn renew(&mut self, tracker: &mut Tracker) -> io::Result<()> {
        let snapshot = tracker.take_snapshot();
        let Some(exporter) = &self.exporter else { return Ok(()) };
        match self.first.take() {
            Some(mut metrics) => {
                metrics.take(&snapshot);
                exporter.publish(metrics)
            }
            None => exporter.update(|metrics| metrics.take(&snapshot)),
        }
    }
}

impl Consumer for Serve {
    fn begin(&mut self, session: &Session) {
        if let Some(metrics) = &mut self.first {
            metrics.begin(session);
        }
        self.next = session.clock.monotonic_ns;
    }

    fn tick(&mut self, tracker: &mut Tracker) -> io::Result<ControlFlow<()>> {
        if tracker.now() >= self.next {
            self.next = tracker.now() + PERIOD;
            self.renew(tracker)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn end(&mut self, tracker: &mut Tracker) -> io::Result<()> {
        self.renew(tracker)?;
        if let Some(exporter) = self.exporter.take() {
            exporter.finish();
        }
        Ok(())
    }

    fn next_tick(&self) -> Option<Nanos> {
        Some(self.next)
    }
}
