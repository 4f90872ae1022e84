//! The side of a connection that this host is on.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::tcp::labels::Enumeration;

/// The side of the handshake that this host was. Decided by the first transition, or for a connection
/// older than the trace by what a scan proves; never guessed from port numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A listener accepted the connection.
    Server,
    /// connect() began the connection.
    Client,
    /// Unknown: the beginning was not observed, and nothing proves either role.
    Unknown,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Server, Self::Client, Self::Unknown];

    /// The names of all roles.
    pub const NAMES: Enumeration =
        Enumeration { name: "role", all: || Self::ALL.map(Self::name).into() };

    /// The name in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Unknown => "unknown",
        }
    }

    /// The port of the service: the local port of a server, the remote port of a client; 0 if the role
    /// is unknown.
    pub const fn service_port(self, local: SocketAddr, remote: SocketAddr) -> u16 {
        match self {
            Self::Server => local.port(),
            Self::Client => remote.port(),
            Self::Unknown => 0,
        }
    }
}
