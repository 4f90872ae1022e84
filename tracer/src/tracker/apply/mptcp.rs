//! Applies what records and scans tell about MPTCP: each subflow is a TCP connection, but the
//! application holds the MPTCP socket, and the kernel opens further subflows (MP_JOIN) by itself.

use std::sync::Arc;

use synfin_common::event::Flags;

use crate::{
    tcp::role::Role,
    trace::{
        event::Transition,
        ids::{MptcpId, SockId},
    },
    tracker::{Tracker, connections::Slot, owners::Owner, served::Served},
};

impl Tracker {
    /// Remembers the process that connects an MPTCP socket. Later subflows are opened by a thread of
    /// the kernel, or by a process that configures MPTCP.
    pub(in crate::tracker) fn note_mptcp_owner(&mut self, first: &Transition) {
        if first.opening.is_some()
            && let Some(id) = first.mptcp
            && self.connections.siblings(id, first.sock).next().is_none()
            && let Some(owner) = self.names.owner_by_opening(first)
        {
            self.mptcp_owners.insert(id, owner);
        }
    }

    /// The owner of a client, from its first transition.
    pub(super) fn client_owner(&mut self, first: &Transition) -> Option<Arc<Owner>> {
        match first.mptcp {
            Some(id) => self.mptcp_owner(id, first.sock),
            None => self.names.owner_by_opening(first),
        }
    }

    /// The owner of the MPTCP connection that this client's subflow belongs to.
    pub(super) fn mptcp_owner(&self, id: MptcpId, sock: SockId) -> Option<Arc<Owner>> {
        let of_sibling = self.connections.siblings(id, sock).find_map(|it| it.owner.clone());
        of_sibling
            .or_else(|| self.mptcp_owners.get(&id).cloned())
            .or_else(|| self.socket_owners.owner(id.get(), 0))
    }

    /// Ids of the processes that are known to hold the MPTCP connection of a client's subflow.
    pub(super) fn mptcp_pids(&self, id: MptcpId, sock: SockId) -> Vec<u32> {
        match self.mptcp_owner(id, sock).and_then(|owner| owner.pid) {
            Some(pid) => vec![pid],
            None => self.socket_owners.pids(id.get()),
        }
    }

    /// Learns from a completed handshake whether the connection is a subflow, and of which MPTCP
    /// connection. The first subflow creates it, and the others join it.
    pub(super) fn learn_subflow(&mut self, established: &Transition, slot: Slot) {
        let connection = self.connections.at(slot);
        let is_server = connection.role == Role::Server;
        let is_subflow = established.flags.contains(Flags::MPTCP);
        connection.flags.set_is_subflow(is_subflow);
        if !is_subflow && connection.mptcp().is_none() {
            return;
        }
        self.connections.set_mptcp(established.sock, established.mptcp);
        let Some(id) = established.mptcp else { return };
        let siblings = || self.connections.siblings(id, established.sock);
        let has_joined = siblings().next().is_some();
        let owner = siblings().find_map(|sibling| sibling.owner.clone()).filter(|_| is_server);
        let connection = self.connections.at(slot);
        connection.flags.set_has_joined(has_joined);
        connection.owner = owner.or_else(|| connection.owner.take());
        if has_joined && is_server {
            // The kernel hands it to the MPTCP connection, which has been accepted already or is in
            // the queue itself (`net/ipv4/tcp_minisocks.c:tcp_check_req`).
            let (served, born) = (Served::from(&*connection), connection.first_seen);
            self.leave_accept_queue(established, served, born);
        }
    }
}
