//! Entries into TIME_WAIT of connections that are not tracked yet.

use std::collections::VecDeque;

use super::pending_close;
use crate::trace::{
    event::{TimeWaitEntry, TimeWaitKind},
    ids::SockId,
    time::Nanos,
};

/// Maximum number kept. The transition to CLOSE follows, after records of other CPUs at most.
const LIMIT: usize = 64;

/// Entries into TIME_WAIT of sockets without an earlier record: the connections are older than the
/// trace, or their records were lost.
#[derive(Debug, Default)]
pub(super) struct EarlyTimeWaits(VecDeque<TimeWaitEntry>);

impl EarlyTimeWaits {
    pub(super) fn add(&mut self, entry: TimeWaitEntry) {
        if self.0.len() >= LIMIT {
            self.0.pop_front();
        }
        self.0.push_back(entry);
    }

    /// The TIME_WAIT kind of a socket that closed at `end`; `None` if no record reported it.
    pub(super) fn take(&mut self, sock: SockId, end: Nanos) -> Option<TimeWaitKind> {
        let is_of_socket = |entry: &TimeWaitEntry| {
            entry.sock == sock && entry.time.abs_diff(end) < pending_close::WAIT
        };
        let index = self.0.iter().rposition(is_of_socket)?;
        Some(self.0.remove(index)?.kind)
    }
}
