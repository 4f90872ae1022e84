//! Applies the counts of the eBPF programs per local port: handshakes in SYN queues, retransmitted
//! SYN-ACKs, and resets sent without a connection.

use synfin_common::{port_count::PortEvent, reset::ResetReason};

use crate::{
    tcp::role::Role,
    trace::{counters::PortCount, ids::NetnsId},
    tracker::{
        Tracker,
        row_key::{RowId, RowKey},
    },
};

impl Tracker {
    pub(in crate::tracker) fn record_port_counts(&mut self, counts: &[PortCount]) {
        for count in counts {
            let &PortCount { netns, port, counted, count } = count;
            let Some(counted) = PortEvent::from_number(counted) else { continue };
            // The kernel side's map had no room for a count without a namespace.
            if netns != 0 {
                self.namespaces.request_scan(netns, self.now);
            }
            if let Some(row) = self.row_of_port(netns, port, counted, count) {
                self.rows.get_mut(row).counters.add_port_event(counted, count);
            }
        }
    }

    /// The row that counts the event; `None` if a filter excludes the port.
    fn row_of_port(
        &mut self,
        netns: NetnsId,
        port: u16,
        counted: PortEvent,
        count: u64,
    ) -> Option<RowId> {
        if !self.admits_port(netns, port) {
            return None;
        }
        let key = RowKey::of_port(netns, Role::Server, port);
        if let Some(row) = self.rows.find(key) {
            return Some(row);
        }
        let is_ephemeral =
            self.namespaces.ephemeral_ports(netns).is_some_and(|ports| ports.contains(port));
        let of_other_row = match counted {
            _ if port == 0 => None,
            PortEvent::SynackRetransmit | PortEvent::SynQueue(_) => Some(Vec::new()),
            // Resets from ephemeral ports answer late segments of clients' connections, or clients of a
            // service that is down.
            PortEvent::Reset(ResetReason::NoSocket) if is_ephemeral => {
                self.closed_ports.add_ephemeral(netns, port, (counted, count), self.now)
            }
            PortEvent::Reset(_) if is_ephemeral => None,
            PortEvent::Reset(_) => self.closed_ports.add(netns, port, (counted, count)),
        };
        let Some(of_other_row) = of_other_row else {
            return Some(self.rows.other_row(Role::Server));
        };
        let row = self.rows.row(key, false);
        for (event, count) in of_other_row {
            let other = self.rows.other_row(Role::Server);
            self.rows.get_mut(other).counters.remove_port_event(event, count);
            self.rows.get_mut(row).counters.add_port_event(event, count);
        }
        Some(row)
    }
}
