//! The side of a connection that this host is on.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::tcp::labels::Enumeration;

/// The side of the handshake that this host was. Decided by the first transition, never guessed from
/// port numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A listener accepted the connection.
    Server,
    /// connect() began the connection.
    Client,
}

impl Role {
    /// The names of both roles.
    pub const NAMES: Enumeration =
        Enumeration { name: "role", all: || [Self::Server, Self::Client].map(Self::name).into() };

    /// The name in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }

    /// The port of the service: the local port of a server, the remote port of a client.
    pub const fn service_port(self, local: SocketAddr, remote: SocketAddr) -> u16 {
        match self {
            Self::Server => local.port(),
            Self::Client => remote.port(),
        }
    }
}

/// The role of a socket whose first transition was not observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoleGuess {
    /// The likelier role.
    pub(crate) role: Role,
    /// Whether there is no evidence for the role.
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
