//! The facts about a socket by which filters are decided.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    tcp::role::Role,
    trace::{
        filter::{Facts, KnownCgroup},
        ids::NetnsId,
    },
};

/// Owned [`Facts`] about a socket.
pub(super) struct FilterEvidence {
    pub(super) netns: NetnsId,
    pub(super) role: Role,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// The listener's port of a server's connection; `None` if it is known by `local` only.
    pub(super) listener_port: Option<u16>,
    pub(super) pids: Vec<u32>,
    pub(super) all_pids: bool,
    pub(super) cgroup: Cgroup,
}

pub(super) enum Cgroup {
    Unknown,
    Path(Arc<str>),
    CheckedByKernel,
}

impl FilterEvidence {
    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            netns: self.netns,
            role: self.role,
            local: self.local,
            remote: self.remote,
            service_port: self
                .listener_port
                .unwrap_or_else(|| self.role.service_port(self.local, self.remote)),
            pids: &self.pids,
            all_pids: self.all_pids,
            cgroup: match &self.cgroup {
                Cgroup::Unknown => KnownCgroup::Unknown,
                Cgroup::Path(path) => KnownCgroup::Path(path),
                Cgroup::CheckedByKernel => KnownCgroup::CheckedByKernel,
            },
        }
    }
}
