//! A scan over a namespace's sockets while it goes on.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use super::{
    gauges::ScanGauges,
    row_key::RowId,
    time_wait::{Expiry, LENGTH, expiry},
    time_wait_rows::{ByEndpoints, EndpointPairKey, Entry},
};
use crate::trace::{
    event::Transition,
    ids::{NetnsId, SockId},
    scan::{ScannedSocket, ScannedTimeWait},
    time::Nanos,
};

/// More ends than this during one scan are not kept: then it adopts nothing.
const CLOSED_LIMIT: usize = 1 << 20;

/// A connect is reported a moment before its socket can be met by a scan.
pub(super) const CONNECT_DELAY: Nanos = 1_000_000_000;

/// A socket that is absent from this many scans in a row is gone, unless losses are known: then
/// one is enough.
pub(super) const MISSED_SCANS_LIMIT: u8 = 2;

/// A scan that goes on.
pub(super) struct SocketScan {
    pub(super) netns: NetnsId,
    pub(super) begun: Nanos,
    pub(super) number: u32,
    /// How many losses were known when it began.
    pub(super) losses: u64,
    /// Sockets closed since it began, and when.
    pub(super) closed: HashMap<SockId, Nanos, FxBuildHasher>,
    /// TIME_WAITs that it met, unless they have ended since it began.
    pub(super) met: Vec<ScannedConnection>,
    /// TIME_WAITs entered since it began, unless the scan has met them.
    pub(super) entered: ByEndpoints<Entry>,
    /// Of orphans in FIN_WAIT2 whose peer has closed since it began, when that was.
    pub(super) turned: ByEndpoints<Nanos>,
    /// TIME_WAITs that have ended since it began.
    pub(super) left: ByEndpoints<()>,
    pub(super) rows: HashMap<RowId, ScanGauges, FxBuildHasher>,
    /// It met connections.
    pub(super) has_connections: bool,
    /// Its findings are incomplete: nothing is concluded from what it did not meet.
    pub(super) incomplete: bool,
}

/// A TIME_WAIT as it is there.
pub(super) struct ScannedConnection {
    pub(super) entry: Entry,
    /// It was already booked like this.
    pub(super) is_booked: bool,
}

impl SocketScan {
    /// Takes note of an end.
    pub(super) fn closed(&mut self, end: &Transition) {
        if end.netns == self.netns {
            if self.closed.len() < CLOSED_LIMIT {
                self.closed.insert(end.sock, end.time);
            } else {
                self.incomplete = true;
            }
        }
    }

    /// Whether a socket was closed after the scan had met it.
    pub(super) fn was_closed_since(&self, socket: &ScannedSocket) -> bool {
        self.closed.get(&socket.sock).is_some_and(|&time| time >= socket.time)
    }

    /// Takes note of an entry into TIME_WAIT.
    pub(super) fn entered_time_wait(&mut self, netns: NetnsId, entry: Entry) {
        if netns == self.netns && self.entered.len() < CLOSED_LIMIT {
            self.entered.insert(entry.key, entry);
        }
    }

    /// Takes note that an orphan in FIN_WAIT2 has become a TIME_WAIT.
    pub(super) fn turned_to_time_wait(
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
        // The scan may have met it before.
        if self.turned.len() < CLOSED_LIMIT {
            self.turned.insert(key, time);
        }
    }

    /// Takes note that a TIME_WAIT is over, which the scan may meet, or have met before.
    pub(super) fn left_time_wait(&mut self, netns: NetnsId, key: EndpointPairKey) {
        if netns == self.netns {
            self.entered.remove(&key);
            self.turned.remove(&key);
            if self.left.len() < CLOSED_LIMIT {
                self.left.insert(key, ());
            }
        }
    }

    /// When a TIME_WAIT that was met ends; `None`: it is an orphan in FIN_WAIT2.
    pub(super) fn expiry(&self, time_wait: &ScannedTimeWait) -> Option<Expiry> {
        let remaining = u64::from(time_wait.remaining_ms) * 1_000_000;
        (!time_wait.fin_wait2).then(|| expiry(self.begun, remaining))
    }

    /// All TIME_WAITs that are there at its end.
    pub(super) fn time_waits(&self) -> impl Iterator<Item = ScannedConnection> {
        let met = self.met.iter().filter(|met| !self.left.contains_key(&met.entry.key));
        let met = met.map(|&ScannedConnection { entry, is_booked }| {
            let turned = || self.turned.get(&entry.key).map(|&time| expiry(time, LENGTH));
            ScannedConnection {
                entry: Entry { expiry: entry.expiry.or_else(turned), ..entry },
                is_booked,
            }
        });
        let entered = self.entered.values();
        met.chain(entered.map(|&entry| ScannedConnection { entry, is_booked: true }))
    }
}
