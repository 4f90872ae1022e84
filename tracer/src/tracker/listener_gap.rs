//! Times when a port's listeners were opened and closed, and for how long the port had none.

use crate::trace::time::Nanos;

/// The listeners of a port over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerUptime {
    /// Time of the last listen() (CLOCK_MONOTONIC, nanoseconds); `None` if none was observed.
    pub opened: Option<Nanos>,
    /// Time when the port's last listener was closed; `None` if that was not observed.
    pub closed: Option<Nanos>,
    /// Nanoseconds from the close of the last listener to the next listen().
    gap: Option<Nanos>,
    /// Time since when the port has no listener; `None` if it has one or that is unknown.
    down: Option<Nanos>,
}

impl ListenerUptime {
    /// A listener was opened.
    pub(super) fn on_listen(&mut self, time: Nanos) {
        self.opened = Some(time);
        if let Some(closed) = self.down.take() {
            self.gap = Some(time.saturating_sub(closed));
        }
    }

    /// The port's last listener was closed.
    pub(super) fn on_close(&mut self, time: Nanos) {
        self.closed = Some(time);
        self.down = Some(time);
    }

    /// A scan found a listener whose opening was not observed: the length of the gap is unknown.
    pub(super) fn on_scan(&mut self) {
        if self.down.take().is_some() {
            self.gap = None;
        }
    }

    /// Whether a listener was opened or closed since this time.
    pub(crate) fn has_changed_since(&self, time: Nanos) -> bool {
        self.opened.max(self.closed) >= Some(time)
    }

    /// Nanoseconds for which the port had no listener before the last listen(), or until `now` if
    /// it has none; `None` if no such gap was observed.
    pub fn gap(&self, now: Nanos) -> Option<Nanos> {
        self.down.map(|closed| now.saturating_sub(closed)).or(self.gap)
    }

    /// Merges another row or interval: the latest times and the longest gap. A present gap has
    /// precedence over past ones.
    pub(super) fn merge(&mut self, other: &Self) {
        self.opened = self.opened.max(other.opened);
        self.closed = self.closed.max(other.closed);
        self.gap = self.gap.max(other.gap);
        self.down = [self.down, other.down].into_iter().flatten().min();
    }
}
