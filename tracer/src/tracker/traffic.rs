//! What scans find that open connections have sent and received. It takes more memory than the
//! connections themselves, so it is kept for consumers that want it only.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;
use synfin_common::{event::Flags, state::TcpState};

use super::connection::Connection;
use crate::{
    tcp::role::Role,
    trace::{ids::SockId, scan::ScannedSocket, time::Nanos},
};

/// What a scan found of an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// When the scan found it (CLOCK_MONOTONIC, nanoseconds).
    time: Nanos,
    /// The smoothed round-trip time, microseconds; `None` if none was measured.
    pub rtt_us: Option<u32>,
    /// The smallest recent round-trip time, microseconds; `None` if none was measured or recorded.
    pub min_rtt_us: Option<u32>,
    /// Number of segments that were sent again, SYNs included; `None` if not recorded.
    pub retransmits: Option<u32>,
    /// Payload bytes that the peer acknowledged; `None` if unknown.
    pub bytes_sent: Option<u64>,
    /// Payload bytes received; `None` if not recorded.
    pub bytes_received: Option<u64>,
}

impl Traffic {
    fn new(socket: &ScannedSocket, role: Role) -> Self {
        let transfer = socket.transfer;
        let (bytes_sent, bytes_received) = transfer.map_or((None, None), |transfer| {
            let our_fin_acknowledged = socket.state == TcpState::FinWait2;
            let fin_received = socket.flags.contains(Flags::FIN_RECEIVED);
            let space = (transfer.bytes_acked, transfer.bytes_received);
            let (sent, received) = payload(space, role, our_fin_acknowledged, fin_received);
            (sent, Some(received))
        });
        Self {
            time: socket.time,
            rtt_us: Some(socket.rtt_us).filter(|&us| us > 0),
            min_rtt_us: socket.min_rtt_us,
            retransmits: transfer.map(|transfer| transfer.total_retransmits),
            bytes_sent,
            bytes_received,
        }
    }
}

/// What scans have found of an open connection.
#[derive(Clone, Copy, Debug)]
pub struct ScannedTraffic {
    first: Traffic,
    /// What the last scan found.
    pub last: Traffic,
}

impl ScannedTraffic {
    /// Payload bytes sent per second between the first and the last scan; `None` if unknown.
    pub fn sent_per_s(&self) -> Option<f64> {
        self.per_s(|traffic| traffic.bytes_sent)
    }

    /// Payload bytes received per second between the first and the last scan; `None` if unknown.
    pub fn received_per_s(&self) -> Option<f64> {
        self.per_s(|traffic| traffic.bytes_received)
    }

    fn per_s(&self, bytes: impl Fn(&Traffic) -> Option<u64>) -> Option<f64> {
        let time = self.last.time.checked_sub(self.first.time).filter(|&time| time > 0)?;
        let bytes = bytes(&self.last)?.saturating_sub(bytes(&self.first)?);
        Some(bytes as f64 * 1e9 / time as f64)
    }
}

/// The traffic of open connections, by socket.
#[derive(Debug, Default)]
pub(super) struct TrafficTable(HashMap<SockId, ScannedTraffic, FxBuildHasher>);

impl TrafficTable {
    /// Takes what a scan found of a connection.
    pub(super) fn take(&mut self, connection: &Connection, socket: &ScannedSocket) {
        let last = Traffic::new(socket, connection.role);
        let first = self.of(socket.sock, connection).map_or(last, |known| known.first);
        self.0.insert(socket.sock, ScannedTraffic { first, last });
    }

    /// The traffic of a connection; `None` if no scan has found it.
    pub(super) fn of(&self, sock: SockId, connection: &Connection) -> Option<&ScannedTraffic> {
        // Before, the socket had another connection.
        self.0.get(&sock).filter(|known| known.first.time >= connection.first_seen)
    }

    /// Forgets the sockets of connections that are no longer open.
    pub(super) fn retain(&mut self, is_open: impl Fn(SockId) -> bool) {
        self.0.retain(|&sock, _| is_open(sock));
    }
}

/// Payload bytes sent and received, given what the kernel has counted of both. It counts sequence space:
/// a client's SYN and each FIN take one byte, so what a connection of unknown role has sent is unknown.
pub(super) fn payload(
    (acked, received): (u64, u64),
    role: Role,
    our_fin_acknowledged: bool,
    fin_received: bool,
) -> (Option<u64>, u64) {
    let syn = match role {
        Role::Client => Some(1),
        Role::Server => Some(0),
        Role::Unknown => None,
    };
    let sent = syn.map(|syn| acked.saturating_sub(syn + u64::from(our_fin_acknowledged)));
    (sent, received.saturating_sub(fin_received.into()))
}
