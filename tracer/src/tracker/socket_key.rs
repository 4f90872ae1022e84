//! A socket and its network namespace.

use crate::trace::ids::{NetnsId, SockId};

/// A socket and its network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketKey {
    pub(super) netns: NetnsId,
    pub(super) sock: SockId,
}
