//! Decides the role of connections whose beginning was not observed.

use synfin_common::state::TcpState;

use crate::{
    tcp::{role::Role, state::is_pending},
    trace::{
        ids::{NetnsId, SockId},
        scan::ScannedSocket,
    },
    tracker::{
        Connection, Tracker, endpoints::Endpoints, past_activity::PastActivity,
        scan::is_same_connection,
    },
};

impl Tracker {
    /// The role of a socket whose first transition was not observed: that of a client if connect()
    /// chose its port, else that of a server if its port has a listener. No port number tells
    /// anything: a client may have called bind(), and a server's listener may have closed.
    pub(super) fn role_of(
        &self,
        netns: NetnsId,
        Endpoints { local, .. }: Endpoints,
        port_by_connect: Option<bool>,
    ) -> Role {
        match port_by_connect {
            Some(true) => Role::Client,
            _ if self.listeners.is_served(netns, local.port()) => Role::Server,
            _ => Role::Unknown,
        }
    }

    /// The same of a socket that a scan found.
    pub(super) fn role_of_scanned(&self, netns: NetnsId, socket: &ScannedSocket) -> Role {
        match socket.state {
            TcpState::SynSent => Role::Client,
            _ => self.role_of(netns, socket.into(), socket.port_by_connect),
        }
    }

    /// Whether a listener that the running scan may find later can decide the role of this socket.
    pub(super) fn awaits_listeners(&self, netns: NetnsId, socket: &ScannedSocket) -> bool {
        let is_decided = self.connections.get(socket.sock).is_some_and(|connection| {
            is_same_connection(connection, netns, socket)
                && (connection.role != Role::Unknown || connection.scan.was_found())
        });
        !is_decided && self.role_of_scanned(netns, socket) == Role::Unknown
    }

    /// Completes a connection that a record revealed before a scan found it: its role and its age.
    /// Later scans prove nothing more, as listeners may be younger than the connection.
    pub(super) fn learn_from_first_scan(&mut self, netns: NetnsId, socket: &ScannedSocket) {
        let Some(connection) = self.connections.get_mut(socket.sock) else { return };
        if !connection.is_adopted()
            || connection.scan.was_found()
            || !is_same_connection(connection, netns, socket)
        {
            return;
        }
        let past = PastActivity::at_scan(socket);
        connection.first_seen = connection.first_seen.min(past.existed_at(socket.state));
        if connection.scan.state_since_is_lower_bound && connection.state == socket.state {
            let since = past.in_state_at(socket.state);
            connection.last_transition = connection.last_transition.min(since);
        }
        if connection.role == Role::Unknown {
            let role = self.role_of_scanned(netns, socket);
            self.set_role(socket.sock, role);
        }
    }

    /// Moves a connection of unknown role to the row of this role, unless a report has counted it
    /// already: rows never take back what they have reported.
    fn set_role(&mut self, sock: SockId, role: Role) {
        let Some(connection) = self.connections.get(sock) else { return };
        let (netns, endpoints) = (connection.netns, connection.endpoints());
        let (row, state) = (connection.row, connection.state);
        let established = connection.established;
        let counters = &self.rows.get_mut(row).counters;
        let is_counted = if established { counters.adopted } else { counters.attempts } > 0;
        // A handshake that completed in the row stays there.
        if role == Role::Unknown || !is_counted || connection.handshake.is_some() {
            return;
        }
        debug_assert_eq!(established, !is_pending(state));
        let owner = connection.owner.clone().or_else(|| match role {
            Role::Server => self.listeners.owner(netns, endpoints.local).cloned(),
            Role::Client | Role::Unknown => None,
        });
        let old = self.rows.get_mut(row);
        old.gauges.leave(state);
        if established {
            old.counters.adopted -= 1;
            old.gauges.open -= 1;
        } else {
            old.counters.attempts -= 1;
            old.gauges.pending -= 1;
        }
        let key = self.row_key(netns, role, endpoints, owner.as_deref());
        let row = self.rows.row(key, established);
        if let Some(connection) = self.connections.remove(sock) {
            let connection = Connection { role, owner, row, ..connection };
            self.add(sock, connection);
        }
    }
}
