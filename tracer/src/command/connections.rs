//! `connections`: those that end, those with a slow handshake, or those that live.

use std::{
    io::{self, Write},
    time::Duration,
};

use synfin_common::state::TcpState;

use super::{Output, say_unasked};
use crate::{
    output::{Lines, connection::Connection},
    tcp::close_reason::CloseReason,
    trace::{
        session::Session,
        time::{ClockAnchor, Nanos},
    },
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

/// Which of these are shown. An empty list asks for nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Select {
    /// Those that ended for one of these reasons.
    pub(crate) reasons: Vec<CloseReason>,
    /// Those in one of these states.
    pub(crate) states: Vec<TcpState>,
    /// Those that have lived at least this long.
    pub(crate) min_age: Option<Duration>,
}

impl Select {
    fn is_old_enough(&self, since: Nanos, now: Nanos) -> bool {
        let age = Duration::from_nanos(now.saturating_sub(since));
        self.min_age.is_none_or(|least| age >= least)
    }

    fn ended(&self, closed: &Closed) -> bool {
        (self.reasons.is_empty() || self.reasons.contains(&closed.reason))
            && self.is_old_enough(closed.since, closed.closed)
    }

    fn living(&self, life: &Life, now: Nanos) -> bool {
        (self.states.is_empty() || self.states.contains(&life.state))
            && self.is_old_enough(life.since, now)
    }
}

/// Writes connections.
pub(crate) struct Connections<W> {
    lines: Lines<W, Connection>,
    which: Which,
    select: Select,
    clock: ClockAnchor,
    unasked: u64,
}

impl<W: Write> Connections<W> {
    pub(crate) fn new(lines: Lines<W, Connection>, which: Which, select: Select) -> Self {
        Self { lines, which, select, clock: ClockAnchor::default(), unasked: 0 }
    }

    fn write(&mut self, asked: bool, connection: impl FnOnce(ClockAnchor) -> Connection) {
        if asked {
            self.lines.write(&connection(self.clock));
        } else {
            self.unasked += 1;
        }
    }
}

impl<W: Write> Observer for Connections<W> {
    fn established(&mut self, life: &Life) {
        let us = life.handshake.and_then(|handshake| handshake.us());
        let took = us.map(|us| Duration::from_micros(us.into()));
        if let (Which::Slow(at_least), Some(took)) = (self.which, took)
            && took >= at_least
        {
            let asked = self.select.living(life, life.changed);
            self.write(asked, |clock| Connection::living(life, life.changed, clock));
        }
    }

    fn closed(&mut self, closed: &Closed) {
        if let Which::Ended = self.which {
            let asked = self.select.ended(closed);
            self.write(asked, |clock| Connection::closed(closed, clock));
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
                let (asked, now) = (self.select.living(life, tracker.now()), tracker.now());
                self.write(asked, |clock| Connection::living(life, now, clock));
            }
        }
        say_unasked(self.unasked, "connections");
        self.lines.settle()
    }
}
