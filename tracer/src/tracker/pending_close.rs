//! Closed connections whose reason is not certain yet, because the kernel may send a reset right
//! after the transition to CLOSE. The waiting time is measured by the times of the input.

use std::collections::{HashMap, VecDeque};

use rustc_hash::FxBuildHasher;

use super::{classify::TimeWait, connection::Connection};
use crate::trace::{event::Transition, ids::SockId, time::Nanos};

/// Time to wait for the reset. It follows within microseconds, unless a hypervisor preempts the CPU
/// for some milliseconds. Once a record is this much newer (or a tick, with no record in flight),
/// the reset would have arrived. The time is short because the connection counts as open until
/// then.
pub(super) const WAIT: Nanos = 50_000_000;

/// Maximum number; beyond it the oldest one is classified by the available evidence.
const LIMIT: usize = 1 << 16;

/// A closed connection whose reason is not certain yet.
#[derive(Debug)]
pub(super) struct PendingClose {
    pub(super) end: Transition,
    pub(super) connection: Connection,
    /// Whether the connection left a TIME_WAIT, by the evidence so far.
    pub(super) time_wait: TimeWait,
}

/// Pending closes, by socket.
#[derive(Debug, Default)]
pub(super) struct PendingCloses {
    by_sock: HashMap<SockId, PendingClose, FxBuildHasher>,
    /// Times and sockets in the order of insertion, including those classified since.
    order: VecDeque<(Nanos, SockId)>,
}

impl PendingCloses {
    pub(super) fn insert(&mut self, pending: PendingClose) {
        let (time, sock) = (pending.end.time, pending.end.sock);
        self.order.push_back((time, sock));
        self.by_sock.insert(sock, pending);
    }

    /// Number of pending closes.
    pub(super) fn len(&self) -> usize {
        self.by_sock.len()
    }

    /// Removes the pending close of this socket.
    pub(super) fn take(&mut self, sock: SockId) -> Option<PendingClose> {
        // Usually nothing is pending.
        if self.by_sock.is_empty() { None } else { self.by_sock.remove(&sock) }
    }

    /// Removes a pending close from this time or before, whose evidence would have arrived.
    pub(super) fn take_due(&mut self, until: Nanos) -> Option<PendingClose> {
        while let Some(&(time, sock)) = self.order.front() {
            if self.order.len() <= LIMIT && time > until {
                return None;
            }
            self.order.pop_front();
            if self.by_sock.get(&sock).is_some_and(|pending| pending.end.time == time) {
                return self.by_sock.remove(&sock);
            }
        }
        None
    }
}
