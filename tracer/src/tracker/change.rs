//! What the tracker tells.

use std::{net::SocketAddr, sync::Arc};

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
    /// Which side we were.
    pub role: Role,
    /// The role is a guess.
    pub role_assumed: bool,
    /// Network namespace.
    pub netns: NetnsId,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// The listener's port for a server, the remote port for a client.
    pub service_port: u16,
    /// Why it ended.
    pub reason: CloseReason,
    /// How we came to know it.
    pub origin: Origin,
    /// When it was born, if that was seen.
    pub opened: Option<Nanos>,
    /// When it was born or first seen.
    pub since: Nanos,
    /// When it ended.
    pub closed: Nanos,
    /// Its handshake, if we saw it get through.
    pub handshake: Option<Handshake>,
    /// It left a TIME_WAIT; `None` if the kernel's table was full, so that it may have or not.
    pub time_wait: Option<bool>,
    /// Microseconds since the last segment was received.
    pub idle_us: Option<u64>,
    /// The owning process.
    pub owner: Option<Arc<Owner>>,
    /// Bytes that the peer acknowledged.
    pub bytes_sent: Option<u64>,
    /// Bytes received.
    pub bytes_received: Option<u64>,
}

/// Who wants to know of each thing as it happens. The tracker's books do not depend on it.
pub trait Observer {
    /// A socket changed its state. `connection` is what is known of the connection up to then, its
    /// state still the old one; `None` for a listener.
    fn transition(&mut self, _transition: &Transition, _life: Option<&Connection>) {}
    /// A handshake got through.
    fn established(&mut self, _life: &Connection) {}
    /// A connection ended.
    fn closed(&mut self, _closed: &Closed) {}
}

/// Nobody wants to know.
impl Observer for () {}
