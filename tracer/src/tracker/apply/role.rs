//! Decides the role and the age of connections whose beginning was not observed.

use synfin_common::state::TcpState;

use crate::{
    tcp::{role::Role, transition::TransitionKind},
    trace::{event::Transition, ids::NetnsId, scan::ScannedSocket},
    tracker::{
        Tracker, endpoints::Endpoints, past_activity::PastActivity, scan::is_same_connection,
    },
};

impl Tracker {
    /// The role of a socket whose first transition was not observed: that of a client if connect()
    /// chose its port, else that of a server if a listener has its port and address. No port number
    /// tells anything: a client may have called bind(), and a server's listener may have closed.
    pub(super) fn role_of(
        &self,
        netns: NetnsId,
        Endpoints { local, .. }: Endpoints,
        port_by_connect: Option<bool>,
    ) -> Role {
        match port_by_connect {
            Some(true) => Role::Client,
            _ if self.listeners.is_served(netns, local) => Role::Server,
            _ => Role::Unknown,
        }
    }

    /// The role of a connection from its first observed transition.
    pub(super) fn role_at(&self, first: &Transition) -> Role {
        match TransitionKind::of(first.old, first.new) {
            _ if first.is_restored() => self.role_of(first.netns, first.into(), None),
            TransitionKind::Open(role) => role,
            _ if first.old == TcpState::SynSent => Role::Client,
            _ => self.role_of(first.netns, first.into(), None),
        }
    }

    /// The same of a socket that a scan found. All subflows of an MPTCP connection have one role.
    pub(super) fn role_of_scanned(&self, netns: NetnsId, socket: &ScannedSocket) -> Role {
        let role = match socket.state {
            TcpState::SynSent => Role::Client,
            _ => self.role_of(netns, socket.into(), socket.port_by_connect),
        };
        if role != Role::Unknown {
            return role;
        }
        let siblings = socket.mptcp.map(|id| self.connections.siblings(id, socket.sock));
        let mut roles = siblings.into_iter().flatten().map(|sibling| sibling.role);
        roles.find(|&role| role != Role::Unknown).unwrap_or(role)
    }

    /// Whether what the running scan may find later can decide the role of this socket: a listener,
    /// or another subflow.
    pub(super) fn awaits_evidence(&self, netns: NetnsId, socket: &ScannedSocket) -> bool {
        let is_decided = self
            .connections
            .get(socket.sock)
            .is_some_and(|connection| is_same_connection(connection, netns, socket));
        let first = self.undecided.decision(socket.sock).first_transition();
        let is_held = first.is_some_and(|first| self.role_at(first) != Role::Unknown)
            && self.is_held_connection(socket.sock, netns, socket.into());
        !is_decided && !is_held && self.role_of_scanned(netns, socket) == Role::Unknown
    }

    /// Learns the age of a connection that a record revealed before a scan found it. An unknown role
    /// stays so: a report may have counted the connection in that row already, and rows never take
    /// back what they have reported.
    pub(super) fn learn_age(&mut self, netns: NetnsId, socket: &ScannedSocket) {
        let Some(connection) = self.connections.get_mut(socket.sock) else { return };
        if !connection.is_adopted()
            || connection.flags.was_found()
            || !is_same_connection(connection, netns, socket)
        {
            return;
        }
        let past = PastActivity::at_scan(socket);
        connection.first_seen = connection.first_seen.min(past.existed_at(socket.state));
        if connection.flags.state_since_is_lower_bound() && connection.state == socket.state {
            let since = past.in_state_at(socket.state);
            connection.last_transition = connection.last_transition.min(since);
        }
    }
}
