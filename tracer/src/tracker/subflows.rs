//! The open subflows of each MPTCP connection.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::trace::ids::{MptcpId, SockId};

/// The sockets of subflows, by the MPTCP connection that they belong to.
#[derive(Debug, Default)]
pub(super) struct Subflows(HashMap<MptcpId, Vec<SockId>, FxBuildHasher>);

impl Subflows {
    pub(super) fn add(&mut self, id: MptcpId, sock: SockId) {
        self.0.entry(id).or_default().push(sock);
    }

    pub(super) fn remove(&mut self, id: MptcpId, sock: SockId) {
        if let Some(socks) = self.0.get_mut(&id) {
            socks.retain(|&other| other != sock);
            if socks.is_empty() {
                self.0.remove(&id);
            }
        }
    }

    pub(super) fn of(&self, id: MptcpId) -> &[SockId] {
        self.0.get(&id).map_or(&[], Vec::as_slice)
    }
}
