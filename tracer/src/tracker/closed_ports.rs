//! What the kernel side counts per port of ours: handshakes in the SYN queue, SYN-ACKs sent again,
//! and resets with no connection behind them.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::trace::ids::NetnsId;

/// A port that nobody serves gets a row once so many resets were sent from it: a service that is
/// down does, a port that a scan has touched does not.
const RESETS_FOR_A_ROW: u64 = 5;

/// More ports are not told apart.
const LIMIT: usize = 4096;

/// Resets from ports that have no row.
#[derive(Debug, Default)]
pub(super) struct ClosedPorts(HashMap<(NetnsId, u16), u64, FxBuildHasher>);

impl ClosedPorts {
    /// Adds to a port's resets. Says whether they are worth a row.
    pub(super) fn add(&mut self, netns: NetnsId, port: u16, count: u64) -> bool {
        if self.0.len() >= LIMIT && !self.0.contains_key(&(netns, port)) {
            // Those of a scan: one each.
            self.0.clear();
        }
        let resets = self.0.entry((netns, port)).or_default();
        *resets = resets.saturating_add(count);
        *resets >= RESETS_FOR_A_ROW
    }
}
