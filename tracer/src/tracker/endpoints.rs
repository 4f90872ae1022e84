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
