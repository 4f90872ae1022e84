//! A running scan of a namespace's sockets.

use std::collections::{BTreeMap, HashMap};

use rustc_hash::FxBuildHasher;

use super::{
    connection::Connection,
    gauges::{ScanGauges, ScannedPort},
    row_key::RowId,
    segments::Segments,
    time_wait::{Expiry, LENGTH, expiry},
    time_wait_rows::{ByEndpoints, EndpointPairKey, EndpointPairs, Entry},
};
use crate::{
    tcp::{role::Role, state},
    trace::{
        event::Transition,
        ids::{NetnsId, SockId},
        scan::{ScannedSocket, ScannedTimeWait},
        time::Nanos,
    },
};

/// Maximum number of closed sockets noted during one scan; beyond it the scan adopts nothing.
const CLOSED_LIMIT: usize = 1 << 20;

/// Maximum time from the report of a transition to SYN_SENT until a scan can find the socket.
pub(super) const CONNECT_DELAY: Nanos = 1_000_000_000;

/// A socket that this many consecutive scans did not find is gone. If records are known to be lost,
/// one scan is enough.
pub(super) const MISSED_SCANS_LIMIT: u8 = 2;
// A connection only knows whether the last scan missed it.
const _: () = assert!(MISSED_SCANS_LIMIT == 2);

/// The kernel stores a socket's new state just after the tracepoint, so a scan may still find the
/// old state. Only a difference that lasts longer than this proves that a record was lost.
const STORE_DELAY: Nanos = 10_000_000;

/// A running scan.
pub(super) struct SocketScan {
    pub(super) netns: NetnsId,
    pub(super) started: Nanos,
    pub(super) number: u32,
    /// Number of losses known when the scan began.
    pub(super) losses: u64,
    /// Sockets closed since the scan began, with the time.
    pub(super) closed: HashMap<SockId, Nanos, FxBuildHasher>,
    /// TIME_WAITs that the scan found.
    pub(super) found: ByEndpoints<FoundTimeWait>,
    /// TIME_WAITs entered since the scan began, except those that it found.
    pub(super) entered: ByEndpoints<Entry>,
    /// Orphans in FIN_WAIT2 that became TIME_WAITs since the scan began, with the time.
    pub(super) from_fin_wait2: ByEndpoints<Nanos>,
    /// Known TIME_WAITs that have ended since the scan began, which it may still find.
    pub(super) left: EndpointPairs,
    pub(super) rows: HashMap<RowId, ScanGauges, FxBuildHasher>,
    /// What connections had sent that ended after the scan had found them.
    pub(super) ended: HashMap<RowId, Segments, FxBuildHasher>,
    /// What the scan found on each local port, whatever the filters exclude.
    pub(super) ports: BTreeMap<u16, ScannedPort>,
    /// Sockets and TIME_WAITs whose role depends on what the scan has not found yet.
    pub(super) deferred: Deferred,
    /// Whether the scan found connections.
    pub(super) has_connections: bool,
    /// Whether findings are missing, so that a socket that was not found may still exist.
    pub(super) incomplete: bool,
}

/// Findings that are applied at the end of the scan, when all listeners and subflows are known.
#[derive(Default)]
pub(super) struct Deferred {
    pub(super) sockets: Vec<ScannedSocket>,
    pub(super) time_waits: Vec<ScannedTimeWait>,
    /// Whether the scan has ended: nothing is deferred any more.
    pub(super) is_over: bool,
}

/// A TIME_WAIT that exists at the end of the scan.
pub(super) struct FoundTimeWait {
    pub(super) entry: Entry,
    /// Whether the tables already count it in this way.
    pub(super) is_counted: bool,
}

impl SocketScan {
    /// Notes that a socket was closed.
    pub(super) fn closed(&mut self, end: &Transition) {
        if end.netns == self.netns {
            if self.closed.len() < CLOSED_LIMIT {
                self.closed.insert(end.sock, end.time);
            } else {
                self.incomplete = true;
            }
        }
    }

    /// Whether a socket was closed after the scan had found it.
    pub(super) fn was_closed_since(&self, socket: &ScannedSocket) -> bool {
        self.closed.get(&socket.sock).is_some_and(|&time| time >= socket.time)
    }

    /// Notes an entry into TIME_WAIT.
    pub(super) fn entered_time_wait(&mut self, netns: NetnsId, entry: Entry) {
        if netns == self.netns && self.entered.len() < CLOSED_LIMIT {
            self.entered.insert(entry.key, entry);
        }
    }

    /// Notes that an orphan in FIN_WAIT2 became a TIME_WAIT.
    pub(super) fn fin_wait2_to_time_wait(
        &mut self,
        netns: NetnsId,
        key: EndpointPairKey,
        time: Nanos,
    ) {
        if netns != self.netns {
            return;
        }
        if let Some(entry) = self.entered.get_mut(&key) {
            entry.expiry = Some(expiry(time, LENGTH));
        }
        // The scan may have found the orphan already.
        if self.from_fin_wait2.len() < CLOSED_LIMIT {
            self.from_fin_wait2.insert(key, time);
        }
    }

    /// Notes that a TIME_WAIT ended, which the scan may have found. `is_known`: there was one, which it
    /// may still find.
    pub(super) fn left_time_wait(&mut self, netns: NetnsId, key: EndpointPairKey, is_known: bool) {
        if netns == self.netns {
            self.found.remove(&key);
            self.entered.remove(&key);
            self.from_fin_wait2.remove(&key);
            if is_known && self.left.len() < CLOSED_LIMIT {
                self.left.insert(key);
            }
        }
    }

    /// The end of a TIME_WAIT that the scan found; `None` for an orphan in FIN_WAIT2.
    pub(super) fn expiry(&self, time_wait: &ScannedTimeWait) -> Option<Expiry> {
        let remaining = u64::from(time_wait.remaining_ms) * 1_000_000;
        (!time_wait.fin_wait2).then(|| expiry(self.started, remaining))
    }

    /// All TIME_WAITs that exist at the end of the scan.
    pub(super) fn time_waits(&self) -> impl Iterator<Item = FoundTimeWait> {
        let found = self.found.values().map(|&FoundTimeWait { entry, is_counted }| {
            let from_fin_wait2 =
                || self.from_fin_wait2.get(&entry.key).map(|&time| expiry(time, LENGTH));
            FoundTimeWait {
                entry: Entry { expiry: entry.expiry.or_else(from_fin_wait2), ..entry },
                is_counted,
            }
        });
        let entered = self.entered.values();
        found.chain(entered.map(|&entry| FoundTimeWait { entry, is_counted: true }))
    }
}

/// Whether the scan found the socket after the kernel had stored the state of the last record.
pub(super) fn is_stored(connection: &Connection, socket: &ScannedSocket) -> bool {
    connection.last_transition.saturating_add(STORE_DELAY) < socket.time
}

/// Whether the socket that a scan found is still this connection's.
pub(super) fn is_same_connection(
    connection: &Connection,
    netns: NetnsId,
    socket: &ScannedSocket,
) -> bool {
    let is_pending_again = connection.flags.is_established()
        && state::is_pending(socket.state)
        && is_stored(connection, socket);
    // Up to Linux 6.14 a child's first transition lacks its endpoints, so any endpoints match.
    let is_proven_client = connection.role == Role::Server && socket.port_by_connect == Some(true);
    connection.matches(netns, socket.into(), false) && !is_pending_again && !is_proven_client
}
