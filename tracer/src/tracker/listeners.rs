//! Listening sockets, which determine the owners of server ports.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rustc_hash::FxBuildHasher;

use super::{
    accept_fifo::{AcceptFifo, Unaccepted},
    holders::{Holders, Process, inheritors},
    owners::{Label, Owner},
    served::Served,
};
use crate::trace::{
    ids::{MptcpId, NetnsId, SockId},
    time::Nanos,
};

/// Maximum number of listeners. Beyond it the owners of rows can be unknown.
const LIMIT: usize = 1 << 17;

#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) netns: NetnsId,
    pub(crate) local: SocketAddr,
    /// The MPTCP socket of a listener for subflows, which processes hold in its place; `None` if
    /// unknown.
    pub(crate) mptcp: Option<MptcpId>,
    /// The process that called listen(), until the holders are known.
    pub(crate) owner: Option<Arc<Owner>>,
    /// The processes that hold the socket; empty if unknown.
    pub(crate) holders: Vec<Process>,
    /// Time at which the holders were last determined for certain; 0 if never.
    pub(crate) owners_checked_at: Nanos,
    /// Whether a scan of all open files has found a process that holds the socket, since a list of all
    /// namespaces last lacked its namespace.
    pub(crate) is_held: bool,
    /// Id of the cgroup in which the socket was created; 0 if unknown.
    pub(crate) cgroup: u64,
    /// Time of listen(), or of the scan that found the listener.
    pub(crate) listening_since: Nanos,
    /// Time of the last record or scan of the listener.
    pub(crate) last_seen: Nanos,
    pub(crate) last_scan: u32,
    /// Number of consecutive scans that did not find the listener.
    pub(crate) missed_scans: u8,
    /// Whether TCP_DEFER_ACCEPT is set.
    pub(crate) defers_accept: bool,
    /// `sk_drops` at `last_seen`.
    pub(crate) drops: u32,
    /// The connections that wait for accept(), as far as they are known.
    pub(crate) accept_fifo: AcceptFifo,
}

impl Listener {
    /// Updates `sk_drops` and returns the increase.
    pub(crate) fn drops_since(&mut self, drops: u32) -> u64 {
        let grown = drops.wrapping_sub(self.drops);
        self.drops = drops;
        // The counter can wrap around. If it decreases, the socket is another one.
        if grown <= u32::MAX / 2 { grown.into() } else { drops.into() }
    }

    /// The socket that processes hold, if this listener has the address `sock`.
    pub(crate) fn held_socket(&self, sock: SockId) -> SockId {
        self.mptcp.map_or(sock, MptcpId::get)
    }

    /// Sets the holders, and the owner that follows from them.
    pub(crate) fn set_holders(&mut self, holders: &Holders, seen: Nanos) {
        self.holders.clone_from(&holders.processes);
        self.owner.clone_from(&holders.owner);
        if !holders.are_uncertain {
            self.owners_checked_at = seen;
        }
    }

    /// The owners: several if processes with different names hold the socket.
    pub(crate) fn labels(&self) -> Vec<Label> {
        match &self.holders[..] {
            [] => self.owner.iter().map(|owner| owner.label.clone()).collect(),
            holders => inheritors(holders).map(|process| process.label().clone()).collect(),
        }
    }

    /// Ids of the processes that are known to hold the socket.
    pub(crate) fn pids(&self) -> Vec<u32> {
        match &self.holders[..] {
            [] => self.owner.iter().filter_map(|owner| owner.pid).collect(),
            holders => holders.iter().map(|process| process.pid).collect(),
        }
    }
}

/// All listeners, by socket and by port.
#[derive(Default)]
pub(crate) struct Listeners {
    by_sock: HashMap<SockId, Listener, FxBuildHasher>,
    by_port: HashMap<(NetnsId, u16), Vec<SockId>, FxBuildHasher>,
}

impl Listeners {
    pub(crate) fn insert(&mut self, sock: SockId, listener: Listener) {
        self.remove(sock);
        if self.by_sock.len() < LIMIT {
            let socks = self.by_port.entry((listener.netns, listener.local.port())).or_default();
            socks.push(sock);
            // Connections may go to the new listener from now on.
            self.clear_accept_fifos(listener.netns, listener.local.port());
            self.by_sock.insert(sock, listener);
        }
    }

    /// Forgets the connections that wait for accept() on a port.
    pub(crate) fn clear_accept_fifos(&mut self, netns: NetnsId, port: u16) {
        for sock in self.by_port.get(&(netns, port)).into_iter().flatten() {
            if let Some(listener) = self.by_sock.get_mut(sock) {
                listener.accept_fifo.clear();
            }
        }
    }

    pub(crate) fn remove(&mut self, sock: SockId) -> Option<Listener> {
        let listener = self.by_sock.remove(&sock)?;
        let key = (listener.netns, listener.local.port());
        if let Some(socks) = self.by_port.get_mut(&key) {
            socks.retain(|&other| other != sock);
            if socks.is_empty() {
                self.by_port.remove(&key);
            }
        }
        Some(listener)
    }

    /// The namespace and address of each listener.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (NetnsId, SocketAddr)> {
        self.by_sock.values().map(|listener| (listener.netns, listener.local))
    }

    /// Sets the local endpoint of a listener whose port was unknown. Returns whether it was.
    pub(crate) fn learn_port(&mut self, sock: SockId, netns: NetnsId, local: SocketAddr) -> bool {
        let is_portless =
            |listener: &Listener| listener.netns == netns && listener.local.port() == 0;
        if local.port() == 0 || !self.by_sock.get(&sock).is_some_and(is_portless) {
            return false;
        }
        let Some(listener) = self.remove(sock) else { return false };
        self.insert(sock, Listener { local, ..listener });
        true
    }

    /// The only listener of a namespace whose port is not known yet.
    pub(crate) fn only_portless(&self, netns: NetnsId) -> Option<SockId> {
        match &self.by_port.get(&(netns, 0))?[..] {
            [only] => Some(*only),
            _ => None,
        }
    }

    pub(crate) fn get(&self, sock: SockId) -> Option<&Listener> {
        self.by_sock.get(&sock)
    }

    pub(crate) fn get_mut(&mut self, sock: SockId) -> Option<&mut Listener> {
        self.by_sock.get_mut(&sock)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.by_sock.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (SockId, &mut Listener)> {
        self.by_sock.iter_mut().map(|(&sock, listener)| (sock, listener))
    }

    /// Whether the port has a listener, on any address.
    pub(crate) fn is_port_served(&self, netns: NetnsId, port: u16) -> bool {
        self.by_port.contains_key(&(netns, port))
    }

    /// Whether a listener can have accepted a connection with this local address.
    pub(crate) fn is_served(&self, netns: NetnsId, local: SocketAddr) -> bool {
        self.serving(Served::at(netns, local)).next().is_some()
    }

    fn count_on(&self, netns: NetnsId, port: u16) -> usize {
        self.by_port.get(&(netns, port)).map_or(0, Vec::len)
    }

    /// The listeners on a port, of all addresses.
    pub(crate) fn on(&self, netns: NetnsId, port: u16) -> impl Iterator<Item = &Listener> {
        let socks = self.by_port.get(&(netns, port)).into_iter().flatten();
        socks.filter_map(|sock| self.by_sock.get(sock))
    }

    /// The addresses of the listeners on a port, at most so many.
    pub(crate) fn addresses_on(&self, netns: NetnsId, port: u16, most: usize) -> BTreeSet<IpAddr> {
        self.on(netns, port).take(most).map(|listener| listener.local.ip()).collect()
    }

    /// A new connection is in the accept queue of one of several listeners.
    pub(crate) fn note_unknown_birth(&mut self, served: Served, time: Nanos) {
        for sock in self.by_port.get(&(served.netns, served.local.port())).into_iter().flatten() {
            if let Some(listener) = self.by_sock.get_mut(sock) {
                listener.accept_fifo.on_unknown_birth(time);
            }
        }
    }

    /// The longest time in which connections waited for accept() on a listener of this port and none
    /// was accepted; `None` if none waits.
    pub(crate) fn unaccepted(&self, netns: NetnsId, port: u16) -> Option<Unaccepted> {
        let times = self.on(netns, port).filter_map(|listener| listener.accept_fifo.unaccepted());
        times.max_by_key(|time| time.length())
    }

    /// The listener that created this connection; `None` if it is unknown.
    fn parent(&self, served: Served) -> Option<SockId> {
        let sock = served.listener?.get();
        let has_place =
            |it: &&Listener| (it.netns, it.local.port()) == (served.netns, served.local.port());
        self.by_sock.get(&sock).filter(has_place).map(|_| sock)
    }

    /// The listeners that can have accepted this connection: the one that created it, if that is
    /// known; else those on its local address, else those on the wildcard address.
    fn serving(&self, served: Served) -> impl Iterator<Item = &Listener> {
        let Served { netns, local, .. } = served;
        let parent = self.parent(served).and_then(|sock| self.by_sock.get(&sock));
        let has_address = move |listener: &&Listener| listener.local.ip() == local.ip();
        let has_any = |listener: &&Listener| listener.local.ip().is_unspecified();
        // Usually the port has only one listener.
        let is_exact = parent.is_none()
            && self.count_on(netns, local.port()) > 1
            && self.on(netns, local.port()).any(|it| has_address(&it));
        let is_known = parent.is_some();
        let listeners = self.on(netns, local.port());
        let listeners =
            listeners.filter(move |it| !is_known && (has_address(it) || !is_exact && has_any(it)));
        parent.into_iter().chain(listeners)
    }

    /// The listener that accepts this connection; `None` if it is unknown or ambiguous. `is_ipv6` is
    /// the family of the connection's socket, which the listener's has too.
    pub(super) fn acceptor(&mut self, served: Served, is_ipv6: bool) -> Option<&mut Listener> {
        if let Some(sock) = self.parent(served) {
            return self.by_sock.get_mut(&sock);
        }
        let Served { netns, local, .. } = served;
        let socks = self.by_port.get(&(netns, local.port()))?;
        let sock = match socks[..] {
            [sock] => sock,
            _ => {
                let serves = |&sock: &SockId, exact: bool| {
                    self.by_sock.get(&sock).is_some_and(|it| match exact {
                        true => it.local.ip() == local.ip(),
                        false => it.local.ip().is_unspecified() && it.local.is_ipv6() == is_ipv6,
                    })
                };
                let has_exact = socks.iter().any(|sock| serves(sock, true));
                let mut serving = socks.iter().filter(|sock| serves(sock, has_exact));
                let found = serving.next()?;
                if serving.next().is_some() {
                    return None;
                }
                *found
            }
        };
        let listener = self.by_sock.get_mut(&sock)?;
        let ip = listener.local.ip();
        (ip == local.ip() || ip.is_unspecified()).then_some(listener)
    }

    /// The owner of a connection; `None` if it is unknown or ambiguous.
    pub(super) fn owner(&self, served: Served) -> Option<&Arc<Owner>> {
        let mut owners = self.serving(served).map(|listener| listener.owner.as_ref());
        let first = owners.next()??;
        owners.all(|owner| owner == Some(first)).then_some(first)
    }

    /// Whether a listener that can accept this connection has TCP_DEFER_ACCEPT.
    pub(super) fn defer_accept(&self, served: Served) -> bool {
        self.serving(served).any(|listener| listener.defers_accept)
    }

    /// Ids of the processes that can accept this connection.
    pub(super) fn pids(&self, served: Served) -> Vec<u32> {
        self.serving(served).flat_map(Listener::pids).collect()
    }

    /// Time at which these processes were last known to be all; 0 if never.
    pub(super) fn owners_checked(&self, served: Served) -> Nanos {
        self.serving(served).map(|listener| listener.owners_checked_at).min().unwrap_or(0)
    }

    /// The process with this id; `None` if it holds no listener that can accept this connection.
    pub(super) fn holder(&self, served: Served, pid: u32) -> Option<Arc<Owner>> {
        let mut holders = self.serving(served).flat_map(|listener| &listener.holders);
        holders.find(|process| process.pid == pid).map(|process| process.owner.clone())
    }

    /// Removes the listeners of namespaces that are gone.
    pub(crate) fn forget_namespaces(&mut self, gone: &HashSet<NetnsId>) {
        let of_gone = self.by_sock.iter().filter(|(_, listener)| gone.contains(&listener.netns));
        let of_gone: Vec<_> = of_gone.map(|(&sock, _)| sock).collect();
        for sock in of_gone {
            self.remove(sock);
        }
    }

    /// Removes the listeners of a namespace that `missed_limit` consecutive scans did not find.
    /// Returns whether this scan missed any.
    pub(crate) fn forget_absent(
        &mut self,
        netns: NetnsId,
        scan: u32,
        started: Nanos,
        missed_limit: u8,
    ) -> bool {
        let mut missed = false;
        let mut gone = Vec::new();
        for (&sock, listener) in &mut self.by_sock {
            if listener.netns == netns && listener.last_scan != scan && listener.last_seen < started
            {
                missed = true;
                listener.missed_scans += 1;
                if listener.missed_scans >= missed_limit {
                    gone.push(sock);
                }
            }
        }
        for sock in gone {
            self.remove(sock);
        }
        missed
    }
}
