//! Closed connections whose reason is not certain yet. For some, evidence follows the transition to
//! CLOSE: the reset that the kernel sends right after it. Waiting is measured in the time of the
//! input.

use std::collections::{HashMap, VecDeque};

use rustc_hash::FxBuildHasher;

use super::{classify::TimeWait, connections::Connection};
use crate::trace::{event::Transition, ids::SockId, time::Nanos};

/// The reset follows within microseconds, unless a hypervisor preempts the CPU for some milliseconds.
/// Once a record is this much newer (or a tick, with no record in flight), the reset would have
/// arrived. Until then the connection counts as open, so this is short.
pub(super) const WAIT: Nanos = 50_000_000;

/// Maximum number; beyond it the oldest is classified by the evidence at hand.
const LIMIT: usize = 1 << 16;

/// A connection that has ended, whose reason may not be known yet.
#[derive(Debug)]
pub(super) struct PendingClose {
    pub(super) end: Transition,
    pub(super) connection: Connection,
    /// What it left behind, as far as is known.
    pub(super) time_wait: TimeWait,
}

/// Pending closes, by socket.
#[derive(Debug, Default)]
pub(super) struct PendingCloses {
    held: HashMap<SockId, PendingClose, FxBuildHasher>,
    /// In order of time; those classified since are still in here.
    order: VecDeque<(Nanos, SockId)>,
}

impl PendingCloses {
    pub(super) fn hold(&mut self, ending: PendingClose) {
        let (time, sock) = (ending.end.time, ending.end.sock);
        self.order.push_back((time, sock));
        self.held.insert(sock, ending);
    }

    /// Number of pending closes.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Removes the pending close of this socket.
    pub(super) fn take(&mut self, sock: SockId) -> Option<PendingClose> {
        // Usually there is none.
        if self.held.is_empty() { None } else { self.held.remove(&sock) }
    }

    /// Removes one that ended at this time or before, so that its evidence would have arrived.
    pub(super) fn take_due(&mut self, until: Nanos) -> Option<PendingClose> {
        while let Some(&(time, sock)) = self.order.front() {
            if self.order.len() <= LIMIT && time > until {
                return None;
            }
            self.order.pop_front();
            if self.held.get(&sock).is_some_and(|held| held.end.time == time) {
                return self.held.remove(&sock);
            }
        }
        None
    }
}
