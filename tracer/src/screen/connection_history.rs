//! Connections with their transitions: a sample of the open ones, and those that closed recently.
//! Memory use is bounded.

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

/// Maximum number of open connections whose transitions are kept.
const MAX_RECORDED: usize = 1 << 16;
/// Maximum number of transitions kept per connection; later ones are dropped.
const MAX_CHANGES: usize = 16;
/// Maximum numbers of closed connections kept per refresh. Abnormal closes have a limit of their
/// own, so that many normal ones do not displace them.
const MAX_ABNORMAL: usize = 1024;
const MAX_OTHER: usize = 512;
/// Maximum numbers of open connections: examined, shown per role and port, and shown.
const MAX_SAMPLED: usize = 100_000;
const MAX_PER_PORT: usize = 100;
const MAX_SHOWN: usize = 10_000;

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
    /// The transitions since the connection was opened or first seen; empty if there were too many
    /// open connections.
    pub(crate) changes: Vec<Change>,
    /// The time of the last transition, or of the close (CLOCK_MONOTONIC, nanoseconds).
    pub(crate) changed: Nanos,
    /// Whether that transition was not observed: `changed` is since when the state is known.
    pub(crate) is_lower_bound: bool,
}

impl ConnectionHistory {
    /// Whether the connection belongs to the row, as far as its data shows.
    pub(crate) fn belongs_to(&self, by: By, row: &RowName) -> bool {
        let ConnectionRow { role, service_port, netns, remote, owner, .. } = &self.connection;
        let is_on_port = *role == Role::Unknown || row.port == Some(*service_port);
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
    pub(crate) fn is_same_connection(&self, other: &Self) -> bool {
        let key = |connection: &ConnectionRow| {
            (connection.netns, connection.local, connection.remote, connection.since)
        };
        key(&self.connection) == key(&other.connection)
    }

    /// Whether the connection failed or closed abnormally.
    pub(crate) fn is_bad(&self) -> bool {
        self.connection.reason.is_some_and(|reason| reason.class() == Class::Abnormal)
    }
}

/// Identifies a connection from its last transition until it is classified, some time later.
type ClosingKey = (NetnsId, SocketAddr, SocketAddr, Nanos);

/// Records the transitions and closes of connections.
#[derive(Default)]
pub(crate) struct HistoryRecorder {
    clock: ClockAnchor,
    open: HashMap<SockId, Vec<Change>, FxBuildHasher>,
    /// Closed connections that the tracker has not classified yet.
    closing: HashMap<ClosingKey, Vec<Change>, FxBuildHasher>,
    closed_abnormal: VecDeque<Arc<ConnectionHistory>>,
    closed_other: VecDeque<Arc<ConnectionHistory>>,
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
            let mut changes = self.open.remove(&sock).unwrap_or_default();
            keep(&mut changes, change);
            self.closing.insert(
                (connection.netns, connection.local(), connection.remote(), connection.first_seen),
                changes,
            );
            return;
        }
        let has_room = self.open.len() < MAX_RECORDED;
        match self.open.get_mut(&sock) {
            // Earlier transitions of this socket belong to another connection.
            Some(changes) if changes.first().is_some_and(|it| it.time < connection.first_seen) => {
                *changes = vec![change];
            }
            Some(changes) => keep(changes, change),
            None if has_room => {
                self.open.insert(sock, vec![change]);
            }
            None => {}
        }
    }

    /// Records a closed connection.
    pub(crate) fn closed(&mut self, closed: &Closed) {
        let key = (closed.netns, closed.local, closed.remote, closed.since);
        let changes = self.closing.remove(&key).unwrap_or_default();
        let connection = ConnectionRow::closed(closed, self.clock);
        let changed = closed.closed;
        let history = ConnectionHistory { connection, changes, changed, is_lower_bound: false };
        let (kept, limit) = if history.is_bad() {
            (&mut self.closed_abnormal, MAX_ABNORMAL)
        } else {
            (&mut self.closed_other, MAX_OTHER)
        };
        if kept.len() == limit {
            kept.pop_front();
        }
        kept.push_back(Arc::new(history));
    }

    /// The connections that closed since the last call, ordered by the time of the close.
    pub(crate) fn take_closed(&mut self) -> Vec<Arc<ConnectionHistory>> {
        // The tracker reports no close of the rest, such as child sockets that were never accepted.
        self.closing.clear();
        let mut closed: Vec<_> =
            self.closed_abnormal.drain(..).chain(self.closed_other.drain(..)).collect();
        closed.sort_by_key(|history| history.changed);
        closed
    }

    /// A sample of the open connections of each port: first those in a lingering state, then those
    /// whose last transition is oldest.
    pub(crate) fn sample(&self, tracker: &Tracker) -> Vec<Arc<ConnectionHistory>> {
        let now = tracker.now();
        let mut ports: HashMap<(Role, u16), Vec<_>, FxBuildHasher> = HashMap::default();
        let stride = tracker.open().len().div_ceil(MAX_SAMPLED).max(1);
        for (sock, connection) in tracker.open().step_by(stride) {
            let lingers = LINGERING_STATES.contains(&connection.state);
            let port = ports.entry((connection.role, connection.service_port())).or_default();
            port.push((!lingers, connection.last_transition, sock, connection));
        }
        let first = |port: Vec<_>| first_of(port, MAX_PER_PORT);
        let shown = ports.into_values().flat_map(first).take(MAX_SHOWN);
        let history = shown.map(|(_, changed, sock, connection)| {
            let is_lower_bound = connection.state_since_is_lower_bound();
            let inode = tracker.netns_inode(connection.netns);
            let connection = ConnectionRow::open(connection, None, inode, now, self.clock);
            let changes = self.open.get(&sock).cloned().unwrap_or_default();
            Arc::new(ConnectionHistory { connection, changes, changed, is_lower_bound })
        });
        history.collect()
    }
}

/// At most `limit` connections: lingering ones first, then by the time of the last transition.
fn first_of(
    mut port: Vec<(bool, Nanos, SockId, &Connection)>,
    limit: usize,
) -> Vec<(bool, Nanos, SockId, &Connection)> {
    let order = |&(not_lingering, changed, sock, _): &_| (not_lingering, changed, sock);
    if port.len() > limit {
        port.select_nth_unstable_by_key(limit, order);
        port.truncate(limit);
    }
    port.sort_unstable_by_key(order);
    port
}

fn keep(changes: &mut Vec<Change>, change: Change) {
    if changes.len() < MAX_CHANGES {
        changes.push(change);
    }
}
