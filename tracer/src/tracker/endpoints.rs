//! Both endpoints of a connection.

use std::net::SocketAddr;

use crate::trace::{
    event::{TimeWaitChange, Transition},
    scan::{ScannedSocket, ScannedTimeWait},
};

/// Both endpoints of a connection. A port is 0 if the kernel did not know it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoints {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

impl Endpoints {
    /// Whether a socket that later has those endpoints can be of the same connection: an unknown port
    /// matches any. If not, the kernel has reused the memory of the socket. `is_young_child`: a
    /// child has its listener's port; behind TPROXY it gets its own on leaving SYN_RECV.
    pub(super) fn can_be(self, later: Self, is_young_child: bool) -> bool {
        let is_unknown =
            |before: SocketAddr, now: SocketAddr| before.port() == 0 || now.port() == 0;
        (is_young_child
            || self.local.port() == later.local.port()
            || is_unknown(self.local, later.local))
            && (self.remote == later.remote || is_unknown(self.remote, later.remote))
    }
}

impl From<&Transition> for Endpoints {
    fn from(transition: &Transition) -> Self {
        Self { local: transition.local, remote: transition.remote }
    }
}

impl From<&TimeWaitChange> for Endpoints {
    fn from(change: &TimeWaitChange) -> Self {
        Self { local: change.local, remote: change.remote }
    }
}

impl From<&ScannedSocket> for Endpoints {
    fn from(socket: &ScannedSocket) -> Self {
        Self { local: socket.local, remote: socket.remote }
    }
}

impl From<&ScannedTimeWait> for Endpoints {
    fn from(time_wait: &ScannedTimeWait) -> Self {
        Self { local: time_wait.local, remote: time_wait.remote }
    }
}
