//! Entries into TIME_WAIT of connections that are not tracked yet.

use super::pending_close;
use crate::trace::{
    event::{TimeWaitEntry, TimeWaitKind},
    ids::SockId,
    recent::Recent,
    time::Nanos,
};

/// Maximum number kept. The transition to CLOSE follows, after records of other CPUs at most, but may
/// be held until a scan shows the role of the connection.
const LIMIT: usize = 1 << 16;

/// Entries into TIME_WAIT of sockets without an earlier record: the connections are older than the
/// trace, or their records were lost.
#[derive(Debug)]
pub(super) struct EarlyTimeWaits(Recent<SockId, TimeWaitEntry>);

impl Default for EarlyTimeWaits {
    fn default() -> Self {
        Self(Recent::new(LIMIT))
    }
}

impl EarlyTimeWaits {
    pub(super) fn add(&mut self, entry: TimeWaitEntry) {
        self.0.insert(entry.sock, entry);
    }

    /// The TIME_WAIT kind of a socket that closed at `end`; `None` if no record reported it.
    pub(super) fn take(&mut self, sock: SockId, end: Nanos) -> Option<TimeWaitKind> {
        let entry = self.0.remove(&sock)?;
        (entry.time.abs_diff(end) < pending_close::WAIT).then_some(entry.kind)
    }
}
