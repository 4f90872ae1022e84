//! The owner of a connection, from its first record to its last: the process that has it open. A
//! descriptor that a process hands on (fork, SCM_RIGHTS) and closes is its new holder's.

use std::sync::Arc;

use super::{
    connection::Connection,
    holders::{Holders, SocketOwners, inheritors},
    listeners::Listeners,
    owners::Owner,
    served::Served,
};
use crate::{
    tcp::role::Role,
    trace::{
        event::Transition,
        ids::{MptcpId, SockId},
    },
};

impl Connection {
    /// The socket that processes hold, if this connection has the address `sock`.
    fn held_socket(&self, sock: SockId) -> SockId {
        self.mptcp().map_or(sock, MptcpId::get)
    }

    /// Sets the owner to the process that acts on the socket, if that is known to hold it or, of a
    /// server's connection, its listener; else to the owner of the listener, which may have become
    /// known only now.
    pub(super) fn learn_owner(
        &mut self,
        transition: &Transition,
        listeners: &Listeners,
        holders: &SocketOwners,
    ) {
        let is_server = self.role == Role::Server;
        let served = Served::from(&*self);
        let held = self.held_socket(transition.sock);
        let acting = transition.pid.and_then(|pid| {
            let of_listener = || is_server.then(|| listeners.holder(served, pid)).flatten();
            holders.holder(held, self.first_seen, pid).or_else(of_listener)
        });
        if acting.is_some() {
            self.owner = acting;
            return;
        }
        if !is_server {
            return;
        }
        if self.owner.is_none() && !self.flags.has_ambiguous_owner() {
            self.owner = listeners.owner(served).cloned();
        }
        // Any process may remove subflows, and packets end them.
        if self.is_subflow() {
            return;
        }
        // Another process acts on the socket, and the open files were not scanned since the
        // connection was opened: the listener may have been passed to that process. (If they were
        // scanned, the server starts a process per connection, or a child of the owner that has not
        // called execve() yet holds its sockets too.)
        let is_other = |pid| self.owner.as_ref().is_some_and(|owner| owner.pid != Some(pid));
        if transition.pid.is_some_and(is_other)
            && !self.flags.owner_holds()
            && listeners.owners_checked(served) < self.first_seen
        {
            self.owner = None;
            self.flags.set_has_ambiguous_owner(true);
        }
    }

    /// Learns the owner from the processes that hold the socket. Returns whether it changed.
    pub(super) fn learn_holders(&mut self, holders: &Holders) -> bool {
        let owner = match &self.owner {
            Some(owner) => successor(owner, holders),
            None => holders.owner.clone(),
        };
        self.flags.set_owner_holds(true);
        let is_new = owner.is_some();
        if is_new {
            self.owner = owner;
            self.flags.set_has_ambiguous_owner(false);
        }
        is_new
    }
}

/// The owner of a socket that had this one, by the processes that hold it now; `None` if it has not
/// changed. An owner that still holds the socket remains, with the name that execve() gave it. Of
/// several other holders with different names, the one with the lowest id is the owner.
fn successor(owner: &Owner, holders: &Holders) -> Option<Arc<Owner>> {
    let Holders { processes, .. } = holders;
    if let Some(same) = processes.iter().find(|process| owner.pid == Some(process.pid)) {
        let has_other_name = same.label().name != owner.label.name;
        return has_other_name.then(|| same.owner.clone());
    }
    // Another process of that name: one of a group, as in a prefork server.
    if owner.pid.is_none()
        && let [_, _, ..] = &processes[..]
        && processes.iter().any(|process| *process.label() == owner.label)
    {
        return None;
    }
    holders.owner.clone().or_else(|| {
        let lowest = inheritors(processes).min_by_key(|process| process.pid)?;
        Some(lowest.owner.clone())
    })
}
