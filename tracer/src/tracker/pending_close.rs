//! Ends that are held for a moment. Of some, the evidence comes only after →CLOSE: the reset that
//! the kernel sends in the same breath. It is waited for, by the time of the input.

use std::collections::{HashMap, VecDeque};

use rustc_hash::FxBuildHasher;

use super::{classify::TimeWait, connections::Connection};
use crate::trace::{event::Transition, ids::SockId, time::Nanos};

/// The reset follows within microseconds, unless the processor is taken away from the kernel in
/// between, as it is from a virtual machine for some milliseconds: so much younger a record must be for it
/// to have been given, or a tick with none on its way. Until then the connection is shown as open, so
/// this is not long.
pub(super) const WAIT: Nanos = 50_000_000;

/// More are not held: the oldest is settled by what is known.
const LIMIT: usize = 1 << 16;

/// A connection that has ended, whose reason may not be known yet.
#[derive(Debug)]
pub(super) struct PendingClose {
    pub(super) end: Transition,
    pub(super) connection: Connection,
    /// What it left behind as far as is known; it may turn out never to have been there.
    pub(super) time_wait: TimeWait,
}

/// Held ends, by their sockets.
#[derive(Debug, Default)]
pub(super) struct PendingCloses {
    held: HashMap<SockId, PendingClose, FxBuildHasher>,
    /// In the order of their ends; those that were settled since are still in here.
    order: VecDeque<(Nanos, SockId)>,
}

impl PendingCloses {
    pub(super) fn hold(&mut self, ending: PendingClose) {
        let (time, sock) = (ending.end.time, ending.end.sock);
        self.order.push_back((time, sock));
        self.held.insert(sock, ending);
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// The end of this socket's last connection, if it is held.
    pub(super) fn take(&mut self, sock: SockId) -> Option<PendingClose> {
        // Mostly none is.
        if self.held.is_empty() { None } else { self.held.remove(&sock) }
    }

    /// One whose evidence would have been given by now: it ended at this time or before.
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
