//! What the tracker reports as it happens, besides what it counts.

use std::{net::SocketAddr, sync::Arc, vec::Drain};

use super::{
    connections::{Connection, Origin},
    owners::Owner,
};
use crate::{
    tcp::{close_reason::CloseReason, handshake::Handshake, role::Role},
    trace::{event::Transition, ids::NetnsId, time::Nanos},
};

/// A connection that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Closed {
    /// The side that this host was.
    pub role: Role,
    /// Whether the role is a guess.
    pub role_assumed: bool,
    /// Network namespace.
    pub netns: NetnsId,
    /// The local address.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// The listener's port for a server, the remote port for a client.
    pub service_port: u16,
    /// Why it ended.
    pub reason: CloseReason,
    /// How it became known.
    pub origin: Origin,
    /// Time of its first transition; `None` if that was not observed.
    pub opened: Option<Nanos>,
    /// Time of its first transition, or of the scan or record that revealed it.
    pub since: Nanos,
    /// Time of its end, or of the scan that missed it.
    pub closed: Nanos,
    /// Its handshake; `None` if it did not complete during the trace.
    pub handshake: Option<Handshake>,
    /// Whether it left a TIME_WAIT; `None` if the kernel's table was full, so that it may have.
    pub time_wait: Option<bool>,
    /// Microseconds between the last received segment and the end; `None` if unknown.
    pub idle_us: Option<u64>,
    /// The owning process, if known.
    pub owner: Option<Arc<Owner>>,
    /// Payload bytes that the peer acknowledged, if known.
    pub bytes_sent: Option<u64>,
    /// Payload bytes received, if known.
    pub bytes_received: Option<u64>,
}

/// Something that happened to a socket. Not boxed: changes live in a buffer that is reused.
#[derive(Clone, Debug)]
pub enum Change {
    /// A socket changed its state.
    Transition {
        /// The change of state.
        transition: Transition,
        /// The connection just before it, in its old state; `None` for a listener.
        connection: Option<Connection>,
    },
    /// A handshake completed.
    Established(Connection),
    /// A connection ended.
    Closed(Closed),
}

/// The kinds of [`Change`] that a consumer asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeKinds {
    /// [`Change::Transition`].
    pub transitions: bool,
    /// [`Change::Established`].
    pub established: bool,
    /// [`Change::Closed`].
    pub closed: bool,
}

impl ChangeKinds {
    /// Every kind.
    pub const ALL: Self = Self { transitions: true, established: true, closed: true };
    /// Ended connections only.
    pub const CLOSED: Self = Self { transitions: false, established: false, closed: true };
}

/// The changes that were asked for and not taken yet. Nothing else is copied.
#[derive(Debug, Default)]
pub(super) struct Changes {
    wanted: ChangeKinds,
    changes: Vec<Change>,
}

impl Changes {
    pub(super) fn new(wanted: ChangeKinds) -> Self {
        Self { wanted, changes: Vec::new() }
    }

    pub(super) fn transition(&mut self, transition: &Transition, connection: Option<&Connection>) {
        if self.wanted.transitions {
            self.changes.push(Change::Transition {
                transition: transition.clone(),
                connection: connection.cloned(),
            });
        }
    }

    pub(super) fn established(&mut self, connection: &Connection) {
        if self.wanted.established {
            self.changes.push(Change::Established(connection.clone()));
        }
    }

    pub(super) fn closed(&mut self, closed: impl FnOnce() -> Closed) {
        if self.wanted.closed {
            self.changes.push(Change::Closed(closed()));
        }
    }

    /// Takes all changes, in their order.
    pub(super) fn drain(&mut self) -> Drain<'_, Change> {
        self.changes.drain(..)
    }
}
