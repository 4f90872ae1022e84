//! What sockets are about to leave behind, before their connections are known.

use std::collections::VecDeque;

use super::pending_close;
use crate::trace::{
    event::{TimeWaitEntry, TimeWaitKind},
    ids::SockId,
    time::Nanos,
};

/// Their ends follow at once; other processors report meanwhile.
const LIMIT: usize = 64;

/// What sockets are about to leave behind of which this is the first that is heard: they are older
/// than the trace, or their records were lost.
#[derive(Debug, Default)]
pub(super) struct EarlyTimeWaits(VecDeque<TimeWaitEntry>);

impl EarlyTimeWaits {
    pub(super) fn add(&mut self, entry: TimeWaitEntry) {
        if self.0.len() >= LIMIT {
            self.0.pop_front();
        }
        self.0.push_back(entry);
    }

    /// What a socket that ends at this time leaves behind, if that was seen.
    pub(super) fn take(&mut self, sock: SockId, end: Nanos) -> Option<TimeWaitKind> {
        let is_its = |entry: &TimeWaitEntry| {
            entry.sock == sock && entry.time.abs_diff(end) < pending_close::WAIT
        };
        let place = self.0.iter().rposition(is_its)?;
        Some(self.0.remove(place)?.kind)
    }
}
