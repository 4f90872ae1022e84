//! Connections, each with its transitions: a sample of those that live, and those that ended lately.
//! Bounded, whatever goes on.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

use rustc_hash::FxBuildHasher;
use synfin_common::state::TcpState;

use crate::{
    output::connection::ConnectionRow,
    tcp::{close_reason::Class, group_by::By, role::Role},
    trace::{
        event::Transition,
        ids::{NetnsId, SockId},
        time::{ClockAnchor, Nanos},
    },
    tracker::{Closed, Common, Connection, LINGERING_STATES, RowName, Tracker},
};

/// More living connections than this have no steps of theirs kept.
const STEPPED: usize = 1 << 16;
/// A connection makes no more: what comes after is not kept.
const MOST_STEPS: usize = 16;
/// So many of those that ended in one refresh are kept, bad ones and others apart, so that a crowd of
/// good ones does not push out the bad.
const ENDED_BAD: usize = 1024;
const ENDED_OTHER: usize = 512;
/// So many living connections are looked at, evenly spread, and so many of a role and port shown.
const LOOKED_AT: usize = 100_000;
const SHOWN_OF_A_PORT: usize = 100;
const SHOWN: usize = 10_000;

/// A connection changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) time: Nanos,
    pub(crate) old: TcpState,
    pub(crate) new: TcpState,
}

/// A connection and what became of it.
pub(crate) struct ConnectionHistory {
    pub(crate) connection: ConnectionRow,
    /// From its birth, or from where on it was seen; none if too many live.
    pub(crate) changes: Vec<Change>,
    /// When it came into the state that it is in, or ended.
    pub(crate) changed: Nanos,
}

impl ConnectionHistory {
    /// Whether it is one of the row's, as far as that can be told.
    pub(crate) fn is_of(&self, by: By, row: &RowName) -> bool {
        let ConnectionRow { role, service_port, netns, remote, owner, .. } = &self.connection;
        let is_on_port = row.port == Some(*service_port);
        row.role == *role
            && match by {
                By::Port => is_on_port,
                By::Remote => is_on_port && row.remote.is_none_or(|it| it == remote.ip()),
                By::Owner => match (&row.owner, owner) {
                    (Some(Common::One(label)), Some(owner)) => label.name == owner.label.name,
                    (Some(Common::Unknown), owner) => owner.is_none(),
                    _ => false,
                },
                By::Netns => row.netns == Some(*netns),
            }
    }

    /// Whether both are one connection, at different times.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let of = |connection: &ConnectionRow| {
            (connection.netns, connection.local, connection.remote, connection.since)
        };
        of(&self.connection) == of(&other.connection)
    }

    /// Whether it went wrong.
    pub(crate) fn is_bad(&self) -> bool {
        self.connection.reason.is_some_and(|reason| reason.class() == Class::Abnormal)
    }
}

/// What an end is known by when it is booked, which may be a moment after its last change.
type Ends = (NetnsId, SocketAddr, SocketAddr, Nanos);

/// Keeps the changes of connections, until somebody asks for these.
#[derive(Default)]
pub(crate) struct HistoryRecorder {
    clock: ClockAnchor,
    living: HashMap<SockId, Vec<Change>, FxBuildHasher>,
    /// Those that are not booked yet.
    ending: HashMap<Ends, Vec<Change>, FxBuildHasher>,
    ended_bad: VecDeque<Arc<ConnectionHistory>>,
    ended_other: VecDeque<Arc<ConnectionHistory>>,
}

impl HistoryRecorder {
    pub(crate) fn new(clock: ClockAnchor) -> Self {
        Self { clock, ..Self::default() }
    }

    /// A connection changes its state; `connection` is what was known of it before.
    pub(crate) fn transition(&mut self, transition: &Transition, connection: &Connection) {
        let &Transition { time, sock, old, new, .. } = transition;
        let change = Change { time, old, new };
        if new == TcpState::Close {
            let mut changes = self.living.remove(&sock).unwrap_or_default();
            keep(&mut changes, change);
            self.ending.insert(
                (connection.netns, connection.local(), connection.remote(), connection.first_seen),
                changes,
            );
            return;
        }
        let has_room = self.living.len() < STEPPED;
        match self.living.get_mut(&sock) {
            // What the socket was before this connection is another connection's.
            Some(changes) if changes.first().is_some_and(|it| it.time < connection.first_seen) => {
                *changes = vec![change];
            }
            Some(changes) => keep(changes, change),
            None if has_room => {
                self.living.insert(sock, vec![change]);
            }
            None => {}
        }
    }

    /// A connection ended.
    pub(crate) fn closed(&mut self, closed: &Closed) {
        let ends = (closed.netns, closed.local, closed.remote, closed.since);
        let changes = self.ending.remove(&ends).unwrap_or_default();
        let connection = ConnectionRow::closed(closed, self.clock);
        let history = ConnectionHistory { connection, changes, changed: closed.closed };
        let (ended, limit) = if history.is_bad() {
            (&mut self.ended_bad, ENDED_BAD)
        } else {
            (&mut self.ended_other, ENDED_OTHER)
        };
        if ended.len() == limit {
            ended.pop_front();
        }
        ended.push_back(Arc::new(history));
    }

    /// Those that have ended since this was last asked, in the order of their ends.
    pub(crate) fn take_ended(&mut self) -> Vec<Arc<ConnectionHistory>> {
        // What is never booked is none: a child that nobody got.
        self.ending.clear();
        let mut ended: Vec<_> =
            self.ended_bad.drain(..).chain(self.ended_other.drain(..)).collect();
        ended.sort_by_key(|history| history.changed);
        ended
    }

    /// Of those that live on each port, the ones that wait for somebody, then those that have
    /// changed nothing for longest.
    pub(crate) fn sample(&self, tracker: &Tracker) -> Vec<Arc<ConnectionHistory>> {
        let now = tracker.now();
        let mut ports: HashMap<(Role, u16), Vec<_>, FxBuildHasher> = HashMap::default();
        let stride = tracker.open().len().div_ceil(LOOKED_AT).max(1);
        for (sock, connection) in tracker.open().step_by(stride) {
            let waits = LINGERING_STATES.contains(&connection.state);
            let port = ports.entry((connection.role, connection.service_port())).or_default();
            port.push((!waits, connection.last_transition, sock, connection));
        }
        let first = |port: Vec<_>| first_of(port, SHOWN_OF_A_PORT);
        let shown = ports.into_values().flat_map(first).take(SHOWN);
        let history = shown.map(|(_, changed, sock, connection)| {
            let connection = ConnectionRow::living(connection, now, self.clock);
            let changes = self.living.get(&sock).cloned().unwrap_or_default();
            Arc::new(ConnectionHistory { connection, changes, changed })
        });
        history.collect()
    }
}

/// The first ones by order and time.
fn first_of(
    mut port: Vec<(bool, Nanos, SockId, &Connection)>,
    limit: usize,
) -> Vec<(bool, Nanos, SockId, &Connection)> {
    let order = |&(waits_not, changed, sock, _): &_| (waits_not, changed, sock);
    if port.len() > limit {
        port.select_nth_unstable_by_key(limit, order);
        port.truncate(limit);
    }
    port.sort_unstable_by_key(order);
    port
}

fn keep(changes: &mut Vec<Change>, change: Change) {
    if changes.len() < MOST_STEPS {
        changes.push(change);
    }
}
