//! Resets from ports that have no row.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::trace::ids::NetnsId;

/// A port without a listener gets a row after this many resets: it belongs to a service that is
/// down, and is not one of many that a port scan touched.
const RESETS_FOR_A_ROW: u64 = 5;

/// Maximum number of ports.
const LIMIT: usize = 4096;

/// Number of resets from each port that has no row.
#[derive(Debug, Default)]
pub(super) struct ClosedPorts(HashMap<(NetnsId, u16), u64, FxBuildHasher>);

impl ClosedPorts {
    /// Adds resets of a port. Returns whether the port gets a row.
    pub(super) fn add(&mut self, netns: NetnsId, port: u16, count: u64) -> bool {
        if self.0.len() >= LIMIT && !self.0.contains_key(&(netns, port)) {
            // A port scan has touched them once each.
            self.0.clear();
        }
        let resets = self.0.entry((netns, port)).or_default();
        *resets = resets.saturating_add(count);
        *resets >= RESETS_FOR_A_ROW
    }
}
