//! `serve`: figures are handed to the endpoint once a second.

use std::{io, ops::ControlFlow};

use super::Output;
use crate::{
    input::{Nanos, Session},
    serve::Endpoint,
    sink::metrics::Metrics,
    tracker::{Observer, Tracker},
};

const PERIOD: Nanos = 1_000_000_000;

/// Adds up, and hands over.
pub(crate) struct Serve {
    metrics: Metrics,
    endpoint: Endpoint,
    next: Nanos,
}

impl Serve {
    pub(crate) fn new(metrics: Metrics, endpoint: Endpoint) -> Self {
        Self { metrics, endpoint, next: 0 }
    }
}

impl Observer for Serve {}

impl Output for Serve {
    fn begin(&mut self, session: &Session) {
        self.metrics.begin(session);
        self.next = session.clock.monotonic_ns;
    }

    fn tick(&mut self, tracker: &mut Tracker) -> io::Result<ControlFlow<()>> {
        if tracker.now() >= self.next {
            self.next = tracker.now() + PERIOD;
            self.metrics.take(&tracker.cut());
            self.endpoint.renew(&self.metrics);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn next_tick(&self) -> Option<Nanos> {
        Some(self.next)
    }
}
