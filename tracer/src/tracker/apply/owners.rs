//! Applies scans of open files: which processes hold listeners and connections.

use crate::{
    trace::{
        ids::{MptcpId, SockId},
        scan::SocketHolders,
    },
    tracker::{Tracker, holders::SocketOwners},
};

impl Tracker {
    /// Updates owners from a scan of open files. `of_all`: of all, not only of those of listeners and
    /// connections in CLOSE_WAIT.
    pub(in crate::tracker) fn apply_socket_holders(
        &mut self,
        holders: &SocketHolders,
        of_all: bool,
    ) {
        // Not both at the same time.
        self.socket_owners = SocketOwners::default();
        self.socket_owners = SocketOwners::new(holders, &self.names);
        for (sock, listener) in self.listeners.iter_mut() {
            let held = listener.held_socket(sock);
            if let Some((holders, seen)) = self.socket_owners.of(held, listener.listening_since) {
                listener.is_held |= of_all;
                listener.set_holders(holders, seen);
            }
        }
        let held: Vec<_> = self.socket_owners.socks().collect();
        for held in held {
            self.learn_holders(held, held, of_all);
            let subflows = MptcpId::new(held).map(|id| self.connections.subflows(id).to_vec());
            for sock in subflows.unwrap_or_default() {
                self.learn_holders(sock, held, of_all);
            }
        }
        self.decide_held();
    }

    /// Updates the owner of a connection from the processes that hold its socket, or that of its
    /// MPTCP connection. Its counts stay in the row in which they began: that of the first owner.
    fn learn_holders(&mut self, sock: SockId, held: SockId, of_all: bool) {
        if let Some(connection) = self.connections.get_mut(sock)
            && let Some((holders, _)) = self.socket_owners.of(held, connection.first_seen)
        {
            if of_all {
                connection.flags.set_is_held(true);
            }
            let was_unknown = connection.owner.is_none();
            if connection.learn_holders(holders)
                && was_unknown
                && let Some(owner) = &connection.owner
            {
                self.rows.get_mut(connection.row).add_owner(&owner.label);
            }
        }
    }
}
