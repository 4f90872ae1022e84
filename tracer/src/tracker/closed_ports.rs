//! What the kernel side counts per port of ours: handshakes in the SYN queue, SYN-ACKs sent again,
//! and resets with no connection behind them.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;
use synfin_common::port_count::PortEvent;

use super::{
    Tracker,
    ports::{RowId, RowKey},
};
use crate::{
    tcp::role::Role,
    trace::{counters::PortCount, ids::NetnsId},
};

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
    fn add(&mut self, netns: NetnsId, port: u16, count: u64) -> bool {
        if self.0.len() >= LIMIT && !self.0.contains_key(&(netns, port)) {
            // Those of a scan: one each.
            self.0.clear();
        }
        let resets = self.0.entry((netns, port)).or_default();
        *resets = resets.saturating_add(count);
        *resets >= RESETS_FOR_A_ROW
    }
}

impl Tracker {
    pub(super) fn record_port_counts(&mut self, counts: &[PortCount]) {
        for count in counts {
            let &PortCount { netns, port, counted, count } = count;
            let Some(counted) = PortEvent::from_number(counted) else { continue };
            if let Some(row) = self.row_of_port(netns, port, counted, count) {
                self.ports.get_mut(row).interval.count_at_port(counted, count);
            }
        }
    }

    /// The row to count on; `None` if a filter excludes the port.
    fn row_of_port(
        &mut self,
        netns: NetnsId,
        port: u16,
        counted: PortEvent,
        count: u64,
    ) -> Option<RowId> {
        if !self.shows_port(netns, port) {
            return None;
        }
        let key = RowKey::of_port(netns, Role::Server, port);
        if let Some(row) = self.ports.find(key) {
            return Some(row);
        }
        let is_ephemeral =
            self.namespaces.ephemeral_ports(netns).is_some_and(|ports| ports.contains(port));
        let is_worth_a_row = port != 0
            && match counted {
                PortEvent::SynackRetransmit | PortEvent::SynQueue(_) => true,
                // Segments that come too late for a client's connection.
                PortEvent::Reset(_) if is_ephemeral => false,
                PortEvent::Reset(_) => self.closed_ports.add(netns, port, count),
            };
        Some(if is_worth_a_row { self.row(key, false) } else { self.ports.other_row(Role::Server) })
    }
}
