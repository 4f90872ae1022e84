//! Counts what scans and last records show of the traffic of connections.

use synfin_common::state::TcpState;

use crate::{
    tcp::state,
    trace::{event::Transition, scan::ScannedSocket},
    tracker::{Tracker, connection::Connection, gauges::ScanGauges, segments::Segments},
};

impl Tracker {
    /// Counts what the running scan has found of an open connection.
    pub(super) fn count_found(&mut self, socket: &ScannedSocket) {
        let (Some(scan), Some(connection)) =
            (&mut self.scan, self.connections.get_mut(socket.sock))
        else {
            return;
        };
        connection.set_idle_ms(idle_ms(socket));
        // A scan can find a socket more than once (`net/ipv4/tcp_ipv4.c:bpf_iter_tcp_batch`).
        if connection.flags.found_by_running_scan() {
            return;
        }
        let gauges = scan.rows.entry(connection.row).or_default();
        if socket.retransmits > 0 {
            count_unanswered(gauges, socket.state);
        }
        if connection.flags.is_established() {
            if socket.rtt_us > 0 {
                gauges.rtt.add(socket.rtt_us.into());
            }
            if let Some(transfer) = socket.transfer {
                let (sent, again) = (transfer.segments_sent, transfer.total_retransmits);
                let segments = Segments::new(sent, again, connection.handshake);
                gauges.retransmitting += u64::from(segments.retransmitted > 0);
                gauges.segments += segments;
                if connection.is_adopted() && !connection.flags.was_found() {
                    let row = self.rows.get_mut(connection.row);
                    row.unsettled.entry(scan.netns).or_default().before += segments;
                }
            }
        }
        connection.on_scan();
        if let Some(traffic) = &mut self.traffic {
            traffic.take(connection, socket);
        }
    }

    /// Counts the segments of a connection that has ended.
    pub(super) fn count_segments(&mut self, connection: &Connection, end: &Transition) {
        if !connection.flags.is_established() {
            return;
        }
        let segments = Segments::at_end(end, connection.handshake);
        let row = self.rows.get_mut(connection.row);
        match &mut self.scan {
            _ if !connection.flags.was_found() => {
                // What an adopted one sent before the trace is not known.
                if !connection.is_adopted() {
                    row.counters.segments += segments;
                }
            }
            Some(scan) if connection.flags.found_by_running_scan() => {
                *scan.ended.entry(connection.row).or_default() += segments;
            }
            _ => row.unsettled.entry(connection.netns).or_default().ended += segments,
        }
    }
}

/// Counts a socket in this state whose retransmissions have no answer.
fn count_unanswered(gauges: &mut ScanGauges, state: TcpState) {
    if state == TcpState::SynSent {
        gauges.unanswered += 1;
    } else if !state::is_pending(state) {
        gauges.stalled += 1;
    }
}

/// Milliseconds since the last segment was received. Before the handshake is complete, the timestamp
/// can be that of an earlier connection of the socket.
fn idle_ms(socket: &ScannedSocket) -> Option<u32> {
    socket.idle_ms.filter(|_| !state::is_pending(socket.state))
}
