//! `connections`: closed connections, connections with a slow handshake, or open connections.

use std::{io::Write, sync::Arc, time::Duration};

use anyhow::Result;
use synfin_common::state::TcpState;

use super::warn_excluded;
use crate::{
    cli::commands::ConnectionsArgs,
    message::exit::Exit,
    output::{
        Lines,
        connection::{self, ConnectionRow},
        consumer::Consumer,
    },
    run::{Run, RunMode},
    tcp::close_reason::CloseReason,
    trace::{
        ids::NetnsInode,
        session::Session,
        time::{ClockAnchor, Nanos},
    },
    tracker::{Change, ChangeKinds, Closed, Connection, Tracker},
};

pub(crate) async fn run(args: ConnectionsArgs, verbose: u8) -> Result<Exit> {
    let lines = Lines::new(args.source.stdout()?, args.output.style(), connection::COLUMNS);
    let which = match args.slow {
        _ if args.open => ConnectionSet::Open,
        Some(at_least) => ConnectionSet::Slow(at_least),
        None => ConnectionSet::Closed,
    };
    let select = Select { reasons: args.reason, states: args.state, min_age: args.min_age };
    let waits = args.source.live.duration.is_some() || !args.run.command.is_empty();
    let mode = if args.open && !waits { RunMode::Once } else { RunMode::UntilSignal };
    let run = Run::open(args.source, verbose)?.with_command(args.run);
    run.go(mode, &mut Connections::new(lines, which, select)).await
}

/// ConnectionSet connections are written, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ConnectionSet {
    /// Each connection when it closes.
    Closed,
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

    fn matches_closed(&self, closed: &Closed) -> bool {
        (self.reasons.is_empty() || self.reasons.contains(&closed.reason))
            && self.is_old_enough(closed.since, closed.closed)
    }

    fn matches_open(&self, connection: &Connection, now: Nanos) -> bool {
        (self.states.is_empty() || self.states.contains(&connection.state))
            && self.is_old_enough(connection.first_seen, now)
    }
}

/// Writes a line per connection.
pub(crate) struct Connections<W> {
    lines: Lines<W, ConnectionRow>,
    which: ConnectionSet,
    select: Select,
    clock: ClockAnchor,
    excluded: u64,
}

impl<W: Write> Connections<W> {
    pub(crate) fn new(
        lines: Lines<W, ConnectionRow>,
        which: ConnectionSet,
        select: Select,
    ) -> Self {
        Self { lines, which, select, clock: ClockAnchor::default(), excluded: 0 }
    }

    fn write(&mut self, is_selected: bool, connection: impl FnOnce(ClockAnchor) -> ConnectionRow) {
        if is_selected {
            self.lines.write(&connection(self.clock));
        } else {
            self.excluded += 1;
        }
    }
}

impl<W: Write> Connections<W> {
    fn established(&mut self, connection: &Connection, inode: NetnsInode) {
        let us = connection.handshake.and_then(|handshake| handshake.us());
        let took = us.map(|us| Duration::from_micros(us.into()));
        if let (ConnectionSet::Slow(at_least), Some(took)) = (self.which, took)
            && took >= at_least
        {
            let is_selected = self.select.matches_open(connection, connection.last_transition);
            self.write(is_selected, |clock| {
                ConnectionRow::open(connection, None, inode, connection.last_transition, clock)
            });
        }
    }

    fn closed(&mut self, closed: &Closed) {
        if let ConnectionSet::Closed = self.which {
            let is_selected = self.select.matches_closed(closed);
            self.write(is_selected, |clock| ConnectionRow::closed(closed, clock));
        }
    }
}

impl<W: Write> Consumer for Connections<W> {
    fn wanted_changes(&self) -> ChangeKinds {
        ChangeKinds {
            established: matches!(self.which, ConnectionSet::Slow(_)),
            closed: matches!(self.which, ConnectionSet::Closed),
            ..ChangeKinds::default()
        }
    }

    fn wants_traffic(&self) -> bool {
        matches!(self.which, ConnectionSet::Open)
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Transition { .. } => {}
            Change::Established { connection, netns_inode } => {
                self.established(connection, *netns_inode);
            }
            Change::Closed(closed) => self.closed(closed),
            Change::Accepted(_) => {}
        }
    }

    fn begin(&mut self, session: &Arc<Session>) {
        self.clock = session.clock;
    }

    fn flush(&mut self) -> Result<()> {
        Ok(self.lines.flush()?)
    }

    fn end(&mut self, tracker: &mut Tracker) -> Result<()> {
        if let ConnectionSet::Open = self.which {
            let mut open: Vec<_> = tracker.open().collect();
            open.sort_by_key(|(sock, connection)| (connection.first_seen, *sock));
            let now = tracker.now();
            for (sock, connection) in open {
                let traffic = tracker.traffic(sock);
                let is_selected = self.select.matches_open(connection, now);
                let inode = tracker.netns_inode(connection.netns);
                self.write(is_selected, |clock| {
                    ConnectionRow::open(connection, traffic, inode, now, clock)
                });
            }
        }
        warn_excluded(self.excluded, "connections");
        Ok(self.lines.flush()?)
    }
}
