//! Connections with their transitions: a sample of the open ones, and those that ended recently.
//! The memory is bounded.

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

/// Transitions are kept for at most this many open connections.
const STEPPED: usize = 1 << 16;
/// Number of transitions kept per connection; later ones are dropped.
const MOST_STEPS: usize = 16;
/// Ended connections kept per refresh. Abnormal and other ends have separate limits, so that many
/// normal ends do not displace abnormal ones.
const ENDED_BAD: usize = 1024;
const ENDED_OTHER: usize = 512;
/// Number of open connections examined, evenly spaced, and number shown per role and port.
const LOOKED_AT: usize = 100_000;
const SHOWN_OF_A_PORT: usize = 100;
const SHOWN: usize = 10_000;

/// A state transition of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) time: Nanos,
    pub(crate) old: TcpState,
    pub(crate) new: TcpState,
}

/// A connection and its transitions.
pub(crate) struct ConnectionHistory {
    pub(crate) connection: ConnectionRow,
    /// The transitions since the connection began or was first seen. Empty if there were too many
    /// open connections.
    pub(crate) changes: Vec<Change>,
    /// The time at which the connection entered its current state, or ended.
    pub(crate) changed: Nanos,
}

impl ConnectionHistory {
    /// Whether the connection belongs to the row, as far as its data shows.
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

    /// Whether both describe the same connection at different times.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let of = |connection: &ConnectionRow| {
            (connection.netns, connection.local, connection.remote, connection.since)
        };
        of(&self.connection) == of(&other.connection)
    }

    /// Whether the connection ended abnormally.
    pub(crate) fn is_bad(&self) -> bool {
        self.connection.reason.is_some_and(|reason| reason.class() == Class::Abnormal)
    }
}

/// Identifies an ended connection. The tracker may report an end some time after its last
/// transition.
type Ends = (NetnsId, SocketAddr, SocketAddr, Nanos);

/// Records the transitions of connections until they are queried.
#[derive(Default)]
pub(crate) struct HistoryRecorder {
    clock: ClockAnchor,
    living: HashMap<SockId, Vec<Change>, FxBuildHasher>,
    /// Ended connections that the tracker has not reported yet.
    ending: HashMap<Ends, Vec<Change>, FxBuildHasher>,
    ended_bad: VecDeque<Arc<ConnectionHistory>>,
    ended_other: VecDeque<Arc<ConnectionHistory>>,
}

impl HistoryRecorder {
    pub(crate) fn new(clock: ClockAnchor) -> Self {
        Self { clock, ..Self::default() }
    }

    /// Records a transition. `connection` is the connection's data before it.
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
            // Earlier transitions of this socket belong to another connection.
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

    /// Records a closed connection.
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

    /// The connections that have ended since the last call, ordered by the time of their end.
    pub(crate) fn take_ended(&mut self) -> Vec<Arc<ConnectionHistory>> {
        // The tracker never reports the rest, such as a child socket that was never accepted.
        self.ending.clear();
        let mut ended: Vec<_> =
            self.ended_bad.drain(..).chain(self.ended_other.drain(..)).collect();
        ended.sort_by_key(|history| history.changed);
        ended
    }

    /// A sample of the open connections: per port, those in a lingering state come first, then
    /// those with the oldest transitions.
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
            let connection = ConnectionRow::open(connection, now, self.clock);
            let changes = self.living.get(&sock).cloned().unwrap_or_default();
            Arc::new(ConnectionHistory { connection, changes, changed })
        });
        history.collect()
    }
}

/// The first connections of a port by order and time.
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
