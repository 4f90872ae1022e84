//! `connections`: closed connections, connections with a slow handshake, or open connections.

use std::{io::Write, sync::Arc, time::Duration};

use anyhow::Result;
use synfin_common::state::TcpState;

use super::warn_unasked;
use crate::{
    cli::commands::ConnectionsArgs,
    message::exit::Exit,
    output::{
        Lines,
        connection::{self, ConnectionRow},
        consumer::Consumer,
        stdout,
    },
    run::{Run, RunMode},
    tcp::close_reason::CloseReason,
    trace::{
        session::Session,
        time::{ClockAnchor, Nanos},
    },
    tracker::{Change, ChangeKinds, Closed, Connection, Tracker},
};

pub(crate) async fn run(args: ConnectionsArgs, verbose: u8) -> Result<Exit> {
    let lines = Lines::new(stdout(), args.output.style(), connection::COLUMNS);
    let which = match args.slow {
        _ if args.open => Which::Open,
        Some(at_least) => Which::Slow(at_least),
        None => Which::Ended,
    };
    let select = Select { reasons: args.reason, states: args.state, min_age: args.min_age };
    let waits = args.source.live.duration.is_some() || !args.run.command.is_empty();
    let mode = if args.open && !waits { RunMode::Once } else { RunMode::UntilSignal };
    let run = Run::open(args.source, verbose)?.with_command(args.run);
    run.go(mode, &mut Connections::new(lines, which, select)).await?;
    Ok(Exit::Done)
}

/// Which connections are written, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    /// Each connection when it closes.
    Ended,
    /// Each connection whose handshake took at least this long, when it becomes established.
    Slow(Duration),
    /// The connections that are open at the end of the trace.
    Open,
}

/// Selects which of these connections are shown. An empty list matches all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Select {
    /// Closed connections with one of these close reasons.
    pub(crate) reasons: Vec<CloseReason>,
    /// Open connections in one of these TCP states.
    pub(crate) states: Vec<TcpState>,
    /// Connections that are at least this old; `None`: of any age.
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

    fn living(&self, connection: &Connection, now: Nanos) -> bool {
        (self.states.is_empty() || self.states.contains(&connection.state))
            && self.is_old_enough(connection.first_seen, now)
    }
}

/// Writes a line per connection.
pub(crate) struct Connections<W> {
    lines: Lines<W, ConnectionRow>,
    which: Which,
    select: Select,
    clock: ClockAnchor,
    unasked: u64,
}

impl<W: Write> Connections<W> {
    pub(crate) fn new(lines: Lines<W, ConnectionRow>, which: Which, select: Select) -> Self {
        Self { lines, which, select, clock: ClockAnchor::default(), unasked: 0 }
    }

    fn write(&mut self, asked: bool, connection: impl FnOnce(ClockAnchor) -> ConnectionRow) {
        if asked {
            self.lines.write(&connection(self.clock));
        } else {
            self.unasked += 1;
        }
    }
}

impl<W: Write> Connections<W> {
    fn established(&mut self, connection: &Connection) {
        let us = connection.handshake.and_then(|handshake| handshake.us());
        let took = us.map(|us| Duration::from_micros(us.into()));
        if let (Which::Slow(at_least), Some(took)) = (self.which, took)
            && took >= at_least
        {
            let asked = self.select.living(connection, connection.last_transition);
            self.write(asked, |clock| {
                ConnectionRow::living(connection, connection.last_transition, clock)
            });
        }
    }

    fn closed(&mut self, closed: &Closed) {
        if let Which::Ended = self.which {
            let asked = self.select.ended(closed);
            self.write(asked, |clock| ConnectionRow::closed(closed, clock));
        }
    }
}

impl<W: Write> Consumer for Connections<W> {
    fn wanted_changes(&self) -> ChangeKinds {
        ChangeKinds {
            established: matches!(self.which, Which::Slow(_)),
            closed: matches!(self.which, Which::Ended),
            ..ChangeKinds::default()
        }
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Transition { .. } => {}
            Change::Established(connection) => self.established(connection),
            Change::Closed(closed) => self.closed(closed),
        }
    }

    fn begin(&mut self, session: &Arc<Session>) {
        self.clock = session.clock;
    }

    fn settle(&mut self) -> Result<()> {
        Ok(self.lines.settle()?)
    }

    fn end(&mut self, tracker: &mut Tracker) -> Result<()> {
        if let Which::Open = self.which {
            let mut lives: Vec<_> = tracker.open().collect();
            lives.sort_by_key(|(sock, connection)| (connection.first_seen, *sock));
            for (_, connection) in lives {
                let (asked, now) = (self.select.living(connection, tracker.now()), tracker.now());
                self.write(asked, |clock| ConnectionRow::living(connection, now, clock));
            }
        }
        warn_unasked(self.unasked, "connections");
        Ok(self.lines.settle()?)
    }
}
