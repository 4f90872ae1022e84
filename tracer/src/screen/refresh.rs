//! The tracker's side of the screen: records transitions, and takes a snapshot at every refresh.

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

/// Creates an update for each interval.
#[derive(Default)]
pub(crate) struct RefreshTimer {
    watch: HistoryRecorder,
    pub(crate) next_cut: Nanos,
}

impl RefreshTimer {
    pub(crate) const WANTED_CHANGES: ChangeKinds =
        ChangeKinds { transitions: true, established: false, closed: true };

    pub(crate) fn of(session: &Session) -> Self {
        let next_cut = session.clock.monotonic_ns.saturating_add(REFRESH);
        Self { watch: HistoryRecorder::new(session.clock), next_cut }
    }

    /// Returns an update if a refresh is due, and `None` otherwise.
    pub(crate) fn due(
        &mut self,
        tracker: &mut Tracker,
        own: impl FnOnce() -> SelfUsage,
    ) -> Option<Update> {
        (tracker.now() >= self.next_cut).then(|| {
            self.next_cut = tracker.now().saturating_add(REFRESH);
            self.cut(tracker, own())
        })
    }

    /// Creates an update from the data since the last one.
    pub(crate) fn cut(&mut self, tracker: &mut Tracker, own: SelfUsage) -> Update {
        let (living, ended) = (self.watch.sample(tracker), self.watch.take_ended());
        Update { snapshot: tracker.take_snapshot(), living, ended, own }
    }

    /// Records a change for the histories of connections.
    pub(crate) fn change(&mut self, change: &Change) {
        match change {
            Change::Transition { transition, connection: Some(connection) } => {
                self.watch.transition(transition, connection);
            }
            Change::Closed(closed) => self.watch.closed(closed),
            Change::Transition { connection: None, .. } | Change::Established(_) => {}
        }
    }
}
