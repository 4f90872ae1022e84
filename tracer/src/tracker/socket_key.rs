//! A socket, its network namespace and its MPTCP connection.

use crate::trace::ids::{MptcpId, NetnsId, SockId};

/// A socket, its network namespace and its MPTCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketKey {
    pub(super) netns: NetnsId,
    pub(super) sock: SockId,
    /// Of a subflow.
    pub(super) mptcp: Option<MptcpId>,
}
