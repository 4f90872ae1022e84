//! The side of a connection that this host is.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::tcp::labels::Enumeration;

/// Which side of the handshake we were. Decided at birth, never guessed from port numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Born from a listener.
    Server,
    /// Born by connect().
    Client,
}

impl Role {
    /// Their names.
    pub const WORDS: Enumeration =
        Enumeration { name: "role", all: || [Self::Server, Self::Client].map(Self::name).into() };

    /// The name that every output uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }

    /// The port that a connection is about: the listener's for a server, the remote one for a
    /// client.
    pub const fn service_port(self, local: SocketAddr, remote: SocketAddr) -> u16 {
        match self {
            Self::Server => local.port(),
            Self::Client => remote.port(),
        }
    }
}

/// The role of a socket whose birth was not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoleGuess {
    /// The likelier role.
    pub(crate) role: Role,
    /// Nothing proves it.
    pub(crate) assumed: bool,
}

impl RoleGuess {
    pub(crate) const fn proven(role: Role) -> Self {
        Self { role, assumed: false }
    }

    pub(crate) const fn assumed(role: Role) -> Self {
        Self { role, assumed: true }
    }
}
