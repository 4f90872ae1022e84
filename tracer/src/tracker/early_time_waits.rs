//! Entries into TIME_WAIT of connections that are not tracked yet.

use std::collections::VecDeque;

use super::pending_close;
use crate::trace::{
    event::{TimeWaitEntry, TimeWaitKind},
    ids::SockId,
    time::Nanos,
};

/// Maximum number kept: the connection's end follows at once, with records of other CPUs between.
const LIMIT: usize = 64;

/// Entries into TIME_WAIT of sockets of which no record came before: they are older than the trace,
/// or their records were lost.
#[derive(Debug, Default)]
pub(super) struct EarlyTimeWaits(VecDeque<TimeWaitEntry>);

impl EarlyTimeWaits {
    pub(super) fn add(&mut self, entry: TimeWaitEntry) {
        if self.0.len() >= LIMIT {
            self.0.pop_front();
        }
        self.0.push_back(entry);
    }

    /// What a socket that ends at this time leaves behind; `None` if no record told.
    pub(super) fn take(&mut self, sock: SockId, end: Nanos) -> Option<TimeWaitKind> {
        let is_its = |entry: &TimeWaitEntry| {
            entry.sock == sock && entry.time.abs_diff(end) < pending_close::WAIT
        };
        let place = self.0.iter().rposition(is_its)?;
        Some(self.0.remove(place)?.kind)
    }
}
