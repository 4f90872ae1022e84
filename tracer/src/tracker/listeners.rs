//! The listeners, which are no connections but tell who serves a port.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use super::connections::Owner;
use crate::input::{Nanos, NetnsId, SockId};

/// More listeners than this are not kept: a row's owner may then be unknown.
const LIMIT: usize = 1 << 17;

#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) netns: NetnsId,
    pub(crate) port: u16,
    pub(crate) owner: Option<Owner>,
    /// When it was last heard of.
    pub(crate) seen: Nanos,
    pub(crate) met_by: u32,
    /// How many walks in a row missed it.
    pub(crate) absent: u8,
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
            self.by_port.entry((listener.netns, listener.port)).or_default().push(sock);
            self.by_sock.insert(sock, listener);
        }
    }

    pub(crate) fn remove(&mut self, sock: SockId) {
        let Some(listener) = self.by_sock.remove(&sock) else {
            return;
        };
        let key = (listener.netns, listener.port);
        if let Some(socks) = self.by_port.get_mut(&key) {
            socks.retain(|&other| other != sock);
            if socks.is_empty() {
                self.by_port.remove(&key);
            }
        }
    }

    pub(crate) fn get_mut(&mut self, sock: SockId) -> Option<&mut Listener> {
        self.by_sock.get_mut(&sock)
    }

    pub(crate) fn is_served(&self, netns: NetnsId, port: u16) -> bool {
        self.by_port.contains_key(&(netns, port))
    }

    /// The listeners on a port, of all addresses.
    pub(crate) fn on(&self, netns: NetnsId, port: u16) -> impl Iterator<Item = &Listener> {
        let socks = self.by_port.get(&(netns, port)).into_iter().flatten();
        socks.filter_map(|sock| self.by_sock.get(sock))
    }

    /// The owner of all listeners on a port, if it is one and known.
    pub(crate) fn owner(&self, netns: NetnsId, port: u16) -> Option<&Owner> {
        let mut owners = self.on(netns, port).map(|listener| listener.owner.as_ref());
        let first = owners.next()??;
        owners.all(|owner| owner == Some(first)).then_some(first)
    }

    /// Forgets those of a namespace that `enough` walks in a row should have met and did not.
    /// Says whether this one missed any.
    pub(crate) fn forget_absent(
        &mut self,
        netns: NetnsId,
        walk: u32,
        begun: Nanos,
        enough: u8,
    ) -> bool {
        let mut missed = false;
        let mut gone = Vec::new();
        for (&sock, listener) in &mut self.by_sock {
            if listener.netns == netns && listener.met_by != walk && listener.seen < begun {
                missed = true;
                listener.absent += 1;
                if listener.absent >= enough {
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
