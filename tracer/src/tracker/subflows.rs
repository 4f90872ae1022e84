//! The open subflows of each MPTCP connection.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::trace::{
    ids::{MptcpId, SockId},
    time::Nanos,
};

/// Maximum time from the reset of one subflow by the peer (MP_FASTCLOSE) until the kernel resets the
/// others, in a worker (`net/mptcp/protocol.c:mptcp_check_fastclose`).
const RESET_DELAY: Nanos = 1_000_000_000;

/// The sockets of subflows, by the MPTCP connection that they belong to.
#[derive(Debug, Default)]
pub(super) struct Subflows(HashMap<MptcpId, MptcpConnection, FxBuildHasher>);

#[derive(Debug, Default)]
struct MptcpConnection {
    socks: Vec<SockId>,
    /// Time at which the peer last reset a subflow.
    reset: Option<Nanos>,
}

impl Subflows {
    pub(super) fn add(&mut self, id: MptcpId, sock: SockId) {
        self.0.entry(id).or_default().socks.push(sock);
    }

    pub(super) fn remove(&mut self, id: MptcpId, sock: SockId) {
        if let Some(connection) = self.0.get_mut(&id) {
            connection.socks.retain(|&other| other != sock);
            if connection.socks.is_empty() {
                self.0.remove(&id);
            }
        }
    }

    pub(super) fn of(&self, id: MptcpId) -> &[SockId] {
        self.0.get(&id).map_or(&[], |connection| connection.socks.as_slice())
    }

    /// Notes that the peer reset a subflow, so that the kernel may reset the others.
    pub(super) fn note_reset(&mut self, id: MptcpId, time: Nanos) {
        if let Some(connection) = self.0.get_mut(&id) {
            connection.reset = Some(time);
        }
    }

    /// Whether the peer reset another subflow just before this time.
    pub(super) fn was_reset(&self, id: MptcpId, time: Nanos) -> bool {
        let reset = self.0.get(&id).and_then(|connection| connection.reset);
        reset.is_some_and(|reset| time.saturating_sub(reset) < RESET_DELAY)
    }
}
