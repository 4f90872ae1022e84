//! `connections`: those that end, those with a slow handshake, or those that live.

use std::{
    io::{self, Write},
    time::Duration,
};

use super::{FirstError, Output};
use crate::{
    input::{ClockAnchor, Session},
    sink::connection::{Connection, ConnectionSink},
    tracker::{Closed, Life, Observer, Tracker},
};

/// Writes connections as they end.
pub(crate) struct Connections<W> {
    sink: ConnectionSink<W>,
    clock: ClockAnchor,
    error: FirstError,
}

impl<W: Write> Connections<W> {
    pub(crate) fn new(sink: ConnectionSink<W>) -> Self {
        Self { sink, clock: ClockAnchor::default(), error: FirstError::default() }
    }
}

impl<W: Write> Observer for Connections<W> {
    fn closed(&mut self, closed: &Closed) {
        let connection = Connection::closed(closed, self.clock);
        self.error.note(self.sink.write(&connection));
    }
}

impl<W: Write> Output for Connections<W> {
    fn begin(&mut self, session: &Session) {
        self.clock = session.clock;
    }

    fn settle(&mut self) -> io::Result<()> {
        self.error.take()?;
        self.sink.flush()
    }
}

/// Writes connections whose handshake was slow, as it gets through.
pub(crate) struct Slow<W> {
    sink: ConnectionSink<W>,
    at_least_us: u128,
    clock: ClockAnchor,
    error: FirstError,
}

impl<W: Write> Slow<W> {
    pub(crate) fn new(sink: ConnectionSink<W>, at_least: Duration) -> Self {
        let clock = ClockAnchor::default();
        Self { sink, at_least_us: at_least.as_micros(), clock, error: FirstError::default() }
    }
}

impl<W: Write> Observer for Slow<W> {
    fn established(&mut self, life: &Life) {
        let us = life.handshake.and_then(|handshake| handshake.us());
        if us.is_some_and(|us| u128::from(us) >= self.at_least_us) {
            let connection = Connection::living(life, life.changed, self.clock);
            self.error.note(self.sink.write(&connection));
        }
    }
}

impl<W: Write> Output for Slow<W> {
    fn begin(&mut self, session: &Session) {
        self.clock = session.clock;
    }

    fn settle(&mut self) -> io::Result<()> {
        self.error.take()?;
        self.sink.flush()
    }
}

/// Writes the living connections at the end.
pub(crate) struct Open<W> {
    sink: ConnectionSink<W>,
    clock: ClockAnchor,
}

impl<W: Write> Open<W> {
    pub(crate) fn new(sink: ConnectionSink<W>) -> Self {
        Self { sink, clock: ClockAnchor::default() }
    }
}

impl<W> Observer for Open<W> {}

impl<W: Write> Output for Open<W> {
    fn begin(&mut self, session: &Session) {
        self.clock = session.clock;
    }

    fn end(&mut self, tracker: &mut Tracker) -> io::Result<()> {
        let mut lives: Vec<_> = tracker.open().collect();
        lives.sort_by_key(|(sock, life)| (life.since, *sock));
        for (_, life) in lives {
            self.sink.write(&Connection::living(life, tracker.now(), self.clock))?;
        }
        self.sink.flush()
    }
}
