//! What the tracker's side does for the screen: it follows connections, and cuts at every refresh.

use super::{
    connection_history::HistoryRecorder,
    update::{SelfUsage, Update},
};
use crate::{
    trace::{event::Transition, session::Session, time::Nanos},
    tracker::{Closed, Connection, Observer, Tracker},
};

/// How often the screen is renewed.
const REFRESH: Nanos = 1_000_000_000;

/// Makes a moment of each interval.
#[derive(Default)]
pub(crate) struct RefreshTimer {
    watch: HistoryRecorder,
    pub(crate) next_cut: Nanos,
}

impl RefreshTimer {
    pub(crate) fn of(session: &Session) -> Self {
        let next_cut = session.clock.monotonic_ns.saturating_add(REFRESH);
        Self { watch: HistoryRecorder::new(session.clock), next_cut }
    }

    /// What there is to show, if it is time for that.
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

    /// What there is to show.
    pub(crate) fn cut(&mut self, tracker: &mut Tracker, own: SelfUsage) -> Update {
        let (living, ended) = (self.watch.sample(tracker), self.watch.take_ended());
        Update { snapshot: tracker.take_snapshot(), living, ended, own }
    }
}

impl Observer for RefreshTimer {
    fn transition(&mut self, transition: &Transition, connection: Option<&Connection>) {
        if let Some(connection) = connection {
            self.watch.transition(transition, connection);
        }
    }

    fn closed(&mut self, closed: &Closed) {
        self.watch.closed(closed);
    }
}
