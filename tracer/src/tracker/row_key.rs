//! The key of a row.

use std::net::IpAddr;

use crate::{tcp::role::Role, trace::ids::NetnsId};

/// A destination of clients: namespace, address and port.
pub(super) type DestinationKey = (NetnsId, IpAddr, u16);

/// A row's index in its table, valid while the row has an open connection or TIME_WAIT.
pub(crate) type RowId = u32;

/// The key of a row. Keys are coarser if the table has no room for a more specific row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// Inode number of the network namespace; 0 for the overflow row.
    pub netns: NetnsId,
    /// The side that this host is.
    pub role: Role,
    /// The service port; `None` for connections of unknown role, which share one row, and for the
    /// overflow row, shared by ports without a row of their own.
    pub port: Option<u16>,
    /// A client's owner; `None` if unknown or not distinguished, and for servers, whose owners are
    /// those of their listeners.
    pub owner: Option<LabelId>,
    /// The address that a client connects to; `None` if destinations are not distinguished, and for
    /// servers.
    pub remote: Option<IpAddr>,
}

impl RowKey {
    /// The key of a server's port, or of all clients of a port together; of all connections of unknown
    /// role.
    pub(crate) const fn of_port(netns: NetnsId, role: Role, port: u16) -> Self {
        let port = match role {
            Role::Server | Role::Client => Some(port),
            Role::Unknown => None,
        };
        Self { netns, role, port, owner: None, remote: None }
    }

    /// The destination of a client's row; `None` for servers, or if the row does not distinguish it.
    pub(super) fn destination(&self) -> Option<DestinationKey> {
        (self.role == Role::Client).then_some(())?;
        Some((self.netns, self.remote?, self.port?))
    }

    /// This key, followed by increasingly coarse ones.
    pub(super) fn coarser(self) -> [Self; 3] {
        let any_remote = Self { remote: None, ..self };
        [self, any_remote, Self { owner: None, ..any_remote }]
    }
}

/// A label's index among all labels.
pub(crate) type LabelId = u32;
