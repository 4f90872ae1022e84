//! Resets from ports that have no row.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;
use synfin_common::port_count::PortEvent;

use crate::trace::ids::NetnsId;

/// A port without a listener gets a row after this many resets: it belongs to a service that is
/// down, and is not one of many that a port scan touched.
const RESETS_FOR_A_ROW: u64 = 3;

/// Maximum number of ports.
const LIMIT: usize = 4096;

/// The resets from each port that has no row.
#[derive(Debug, Default)]
pub(super) struct ClosedPorts(HashMap<(NetnsId, u16), Resets, FxBuildHasher>);

#[derive(Debug, Default)]
struct Resets {
    count: u64,
    /// Those of the current interval, which the row of all other ports has counted.
    elsewhere: Vec<(PortEvent, u64)>,
}

impl ClosedPorts {
    /// Adds resets of a port. If the port gets a row, returns what that has to take over from the row
    /// of all other ports.
    pub(super) fn add(
        &mut self,
        netns: NetnsId,
        port: u16,
        (event, count): (PortEvent, u64),
    ) -> Option<Vec<(PortEvent, u64)>> {
        if self.0.len() >= LIMIT && !self.0.contains_key(&(netns, port)) {
            // A port scan has touched them once each.
            self.0.clear();
        }
        let resets = self.0.entry((netns, port)).or_default();
        resets.count = resets.count.saturating_add(count);
        if resets.count >= RESETS_FOR_A_ROW {
            return Some(std::mem::take(&mut resets.elsewhere));
        }
        resets.elsewhere.push((event, count));
        None
    }

    pub(super) fn begin_interval(&mut self) {
        self.0.values_mut().for_each(|resets| resets.elsewhere.clear());
    }
}
