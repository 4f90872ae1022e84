//! A server's connection from its listener's point of view.

use std::net::SocketAddr;

use crate::trace::{
    event::Transition,
    ids::{ListenerId, NetnsId},
};

/// A server's connection, as far as it tells its listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served {
    pub(super) netns: NetnsId,
    /// Its local address, with the port of its listener: behind a transparent proxy (TPROXY,
    /// `sk_lookup`) the connection has another port.
    pub(super) local: SocketAddr,
    /// The listener that created it; `None` if unknown.
    pub(super) listener: Option<ListenerId>,
}

impl Served {
    /// A connection to this address whose listener is only known by its port.
    pub(super) fn at(netns: NetnsId, local: SocketAddr) -> Self {
        Self { netns, local, listener: None }
    }

    /// The connection of a record, which `first`, the first record of its socket, began.
    pub(super) fn of(record: &Transition, first: &Transition) -> Self {
        let port = first.listener_port().unwrap_or(record.local.port());
        Self {
            netns: record.netns,
            local: SocketAddr::new(record.local.ip(), port),
            listener: first.listener(),
        }
    }
}
