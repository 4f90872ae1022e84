//! Changes that the tracker reports one by one, in addition to its statistics.

use std::{net::SocketAddr, sync::Arc, vec::Drain};

use super::{
    accept_fifo::InferredAccept,
    connection::{Connection, Origin},
    owners::{Owner, ProcessNames},
};
use crate::{
    tcp::{close_reason::CloseReason, handshake::Handshake, role::Role},
    trace::{
        event::Transition,
        ids::{MptcpId, NetnsId, NetnsInode},
        time::Nanos,
    },
};

/// A closed connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Closed {
    /// The side that this host was.
    pub role: Role,
    /// The network namespace.
    pub netns: NetnsId,
    /// Its inode number.
    pub netns_inode: NetnsInode,
    /// The local address.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// The listener's port for a server, the remote port for a client; 0 if the role is unknown.
    pub service_port: u16,
    /// The close reason.
    pub reason: CloseReason,
    /// How the connection became known.
    pub origin: Origin,
    /// Time of the first transition (CLOCK_MONOTONIC, ns); `None` if not observed.
    pub opened: Option<Nanos>,
    /// Time of the first transition; if it was not observed, the earliest time at which the connection
    /// is known to have existed.
    pub since: Nanos,
    /// Time of the transition to CLOSE, or of the scan that no longer found the socket.
    pub closed: Nanos,
    /// The handshake; `None` if it did not complete during the trace.
    pub handshake: Option<Handshake>,
    /// Whether the connection left a TIME_WAIT; `None` if unconfirmed: the kernel's table was full.
    pub time_wait: Option<bool>,
    /// Microseconds from the last received segment to the close; `None` if unknown.
    pub idle_us: Option<u64>,
    /// The smoothed round-trip time at the end, microseconds; `None` if none was measured.
    pub rtt_us: Option<u32>,
    /// The smallest recent round-trip time, microseconds; `None` if none was measured or recorded.
    pub min_rtt_us: Option<u32>,
    /// Number of segments that were sent again, SYNs included; `None` if unknown.
    pub retransmits: Option<u32>,
    /// The owning process; `None` if unknown.
    pub owner: Option<Arc<Owner>>,
    /// Whether it was a subflow of an MPTCP connection.
    pub is_subflow: bool,
    /// The MPTCP connection of a subflow; `None` if unknown.
    pub mptcp: Option<MptcpId>,
    /// Payload bytes that the peer acknowledged; `None` if unknown.
    pub bytes_sent: Option<u64>,
    /// Payload bytes received; `None` if unknown.
    pub bytes_received: Option<u64>,
    /// Microseconds in which the peer's receive window held up sending; `None` if unknown.
    pub window_limited_us: Option<u64>,
    /// Microseconds in which the send buffer held up sending; `None` if unknown.
    pub buffer_limited_us: Option<u64>,
}

/// A change of a socket.
#[derive(Clone, Debug)]
pub enum Change {
    /// A socket changed its state.
    Transition {
        /// The change of state.
        transition: Transition,
        /// Inode number of its network namespace.
        netns_inode: NetnsInode,
        /// The connection just before the transition, in its old state; `None` for a listener.
        connection: Option<Connection>,
    },
    /// A handshake completed.
    Established {
        /// The connection.
        connection: Connection,
        /// Inode number of its network namespace.
        netns_inode: NetnsInode,
    },
    /// A connection closed.
    Closed(Closed),
    /// accept() took a connection, as inferred from the accept queue.
    Accepted(InferredAccept),
}

/// The kinds of [`Change`] that a consumer selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeKinds {
    /// [`Change::Transition`].
    pub transitions: bool,
    /// [`Change::Established`].
    pub established: bool,
    /// [`Change::Closed`].
    pub closed: bool,
    /// [`Change::Accepted`].
    pub accepted: bool,
}

impl ChangeKinds {
    /// All kinds.
    pub const ALL: Self =
        Self { transitions: true, established: true, closed: true, accepted: true };
    /// Closed connections only.
    pub const CLOSED: Self =
        Self { transitions: false, established: false, closed: true, accepted: false };
}

/// The selected changes that were not taken yet. Other changes are not copied.
#[derive(Debug, Default)]
pub(super) struct Changes {
    wanted: ChangeKinds,
    changes: Vec<Change>,
}

impl Changes {
    pub(super) fn new(wanted: ChangeKinds) -> Self {
        Self { wanted, changes: Vec::new() }
    }

    /// `names` knows the namespace of the transition.
    pub(super) fn transition(
        &mut self,
        transition: &Transition,
        connection: Option<&Connection>,
        names: &ProcessNames,
    ) {
        if self.wanted.transitions {
            self.changes.push(Change::Transition {
                netns_inode: names.inode(transition.netns),
                transition: transition.clone(),
                connection: connection.cloned(),
            });
        }
    }

    /// `names` knows the namespace of the connection.
    pub(super) fn established(&mut self, connection: &Connection, names: &ProcessNames) {
        if self.wanted.established {
            self.changes.push(Change::Established {
                netns_inode: names.inode(connection.netns),
                connection: connection.clone(),
            });
        }
    }

    pub(super) fn closed(&mut self, closed: impl FnOnce() -> Closed) {
        if self.wanted.closed {
            self.changes.push(Change::Closed(closed()));
        }
    }

    pub(super) fn accepted(&mut self, accept: InferredAccept) {
        if self.wanted.accepted {
            self.changes.push(Change::Accepted(accept));
        }
    }

    /// Takes all changes, in order.
    pub(super) fn drain(&mut self) -> Drain<'_, Change> {
        self.changes.drain(..)
    }
}
