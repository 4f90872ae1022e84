//! What a row is about.

use std::net::IpAddr;

use crate::{tcp::role::Role, trace::ids::NetnsId};

/// A row's place in its table. Good for as long as something lives in the row.
pub(crate) type RowId = u32;

/// What a row is about, as finely as there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// Network namespace; 0 for the rest.
    pub netns: NetnsId,
    /// Which side we are.
    pub role: Role,
    /// The service port; `None` for the rest, which all ports without a row of their own share.
    pub port: Option<u16>,
    /// A client's owner; `None` if it is not known or not told apart, and for servers, whose
    /// owners are their listeners'.
    pub owner: Option<LabelId>,
    /// Where a client connects to; `None` if that is not told apart, and for servers.
    pub remote: Option<IpAddr>,
}

impl RowKey {
    /// A server's, or what all clients of a port share.
    pub(crate) const fn of_port(netns: NetnsId, role: Role, port: u16) -> Self {
        Self { netns, role, port: Some(port), owner: None, remote: None }
    }

    /// This key, and those that tell less and less apart.
    pub(super) fn coarser(self) -> [Self; 3] {
        let any_remote = Self { remote: None, ..self };
        [self, any_remote, Self { owner: None, ..any_remote }]
    }
}

/// A label's place among all labels.
pub(crate) type LabelId = u32;
