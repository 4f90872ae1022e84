//! `connections`: those that end, those with a slow handshake, or those that live.

use std::{
    io::{self, Write},
    time::Duration,
};

use super::Output;
use crate::{
    input::{ClockAnchor, Session},
    sink::{Lines, connection::Connection},
    tracker::{Closed, Life, Observer, Tracker},
};

/// Which connections are written, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    /// Each when it ends.
    Ended,
    /// Each whose handshake took at least this long, as it gets through.
    Slow(Duration),
    /// Those that live at the end.
    Open,
}

/// Writes connections.
pub(crate) struct Connections<W> {
    lines: Lines<W, Connection>,
    which: Which,
    clock: ClockAnchor,
}

impl<W: Write> Connections<W> {
    pub(crate) fn new(lines: Lines<W, Connection>, which: Which) -> Self {
        Self { lines, which, clock: ClockAnchor::default() }
    }
}

impl<W: Write> Observer for Connections<W> {
    fn established(&mut self, life: &Life) {
        let us = life.handshake.and_then(|handshake| handshake.us());
        let took = us.map(|us| Duration::from_micros(us.into()));
        if let (Which::Slow(at_least), Some(took)) = (self.which, took)
            && took >= at_least
        {
            self.lines.write(&Connection::living(life, life.changed, self.clock));
        }
    }

    fn closed(&mut self, closed: &Closed) {
        if let Which::Ended = self.which {
            self.lines.write(&Connection::closed(closed, self.clock));
        }
    }
}

impl<W: Write> Output for Connections<W> {
    fn begin(&mut self, session: &Session) {
        self.clock = session.clock;
    }

    fn settle(&mut self) -> io::Result<()> {
        self.lines.settle()
    }

    fn end(&mut self, tracker: &mut Tracker) -> io::Result<()> {
        if let Which::Open = self.which {
            let mut lives: Vec<_> = tracker.open().collect();
            lives.sort_by_key(|(sock, life)| (life.since, *sock));
            for (_, life) in lives {
                self.lines.write(&Connection::living(life, tracker.now(), self.clock));
            }
        }
        self.lines.settle()
    }
}
