//! The open subflows of each MPTCP connection.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::{
    tcp::close_reason::CloseReason,
    trace::{
        ids::{MptcpId, SockId},
        time::Nanos,
    },
};

/// Maximum time from the first reset of a subflow (MP_FASTCLOSE) until all are reset: where it
/// arrives, a worker of the kernel resets the others
/// (`net/mptcp/protocol.c:mptcp_check_fastclose`), perhaps before the end that began does.
const RESET_DELAY: Nanos = 1_000_000_000;

/// The sockets of subflows, by the MPTCP connection that they belong to.
#[derive(Debug, Default)]
pub(super) struct Subflows(HashMap<MptcpId, MptcpConnection, FxBuildHasher>);

#[derive(Debug, Default)]
struct MptcpConnection {
    socks: Vec<SockId>,
    /// The time at which a subflow was reset, and why.
    reset: Option<(Nanos, CloseReason)>,
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

    /// Notes that a subflow was reset, so that the kernels may reset the others.
    pub(super) fn note_reset(&mut self, id: MptcpId, time: Nanos, reason: CloseReason) {
        if let Some(connection) = self.0.get_mut(&id) {
            connection.reset = Some((time, reason));
        }
    }

    /// Why another subflow was reset at about this time; `None` if none was.
    pub(super) fn reset_before(&self, id: MptcpId, time: Nanos) -> Option<CloseReason> {
        let (reset, reason) = self.0.get(&id)?.reset?;
        (time.abs_diff(reset) < RESET_DELAY).then_some(reason)
    }
}
