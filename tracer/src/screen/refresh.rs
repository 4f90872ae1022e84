//! Records transitions, and makes an update for the screen at each refresh.

use super::{
    connection_history::HistoryRecorder,
    update::{SelfUsage, Update},
};
use crate::{
    trace::{session::Session, time::Nanos},
    tracker::{Change, ChangeKinds, Tracker},
};

/// Refresh interval in nanoseconds.
const REFRESH: Nanos = 1_000_000_000;

/// Decides when the screen is refreshed, and makes the updates.
#[derive(Default)]
pub(crate) struct RefreshTimer {
    recorder: HistoryRecorder,
    pub(crate) next_refresh: Nanos,
}

impl RefreshTimer {
    pub(crate) const WANTED_CHANGES: ChangeKinds =
        ChangeKinds { transitions: true, established: false, closed: true, accepted: false };

    pub(crate) fn new(session: &Session) -> Self {
        let next_refresh = session.clock.monotonic_ns.saturating_add(REFRESH);
        Self { recorder: HistoryRecorder::new(session.clock), next_refresh }
    }

    /// Returns an update if a refresh is due, and `None` otherwise.
    pub(crate) fn due(
        &mut self,
        tracker: &mut Tracker,
        usage: impl FnOnce() -> SelfUsage,
    ) -> Option<Update> {
        (tracker.now() >= self.next_refresh).then(|| {
            self.next_refresh = tracker.now().saturating_add(REFRESH);
            self.update(tracker, usage())
        })
    }

    /// Creates an update from the data since the last one.
    pub(crate) fn update(&mut self, tracker: &mut Tracker, usage: SelfUsage) -> Update {
        let (open, closed) = (self.recorder.sample(tracker), self.recorder.take_closed());
        Update { snapshot: tracker.take_snapshot(), open, closed, usage }
    }

    /// Records a change for the histories of connections.
    pub(crate) fn change(&mut self, change: &Change) {
        match change {
            Change::Transition { transition, connection: Some(connection), .. } => {
                self.recorder.transition(transition, connection);
            }
            Change::Closed(closed) => self.recorder.closed(closed),
            Change::Transition { connection: None, .. }
            | Change::Established { .. }
            | Change::Accepted(_) => {}
        }
    }
}
