//! Since when a port is served, and how long it was not.

use crate::trace::time::Nanos;

/// The listeners of a port over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerUptime {
    /// When a listener was last opened, if that was seen.
    pub opened: Option<Nanos>,
    /// When the last one that was left was closed, if that was seen.
    pub closed: Option<Nanos>,
    /// Nanoseconds from there to the next opening.
    gap: Option<Nanos>,
    /// Since when nobody serves it, if that was seen.
    down: Option<Nanos>,
}

impl ListenerUptime {
    /// A listener is opened.
    pub(super) fn on_listen(&mut self, time: Nanos) {
        self.opened = Some(time);
        if let Some(closed) = self.down.take() {
            self.gap = Some(time.saturating_sub(closed));
        }
    }

    /// The last listener is closed.
    pub(super) fn on_close(&mut self, time: Nanos) {
        self.closed = Some(time);
        self.down = Some(time);
    }

    /// A listener is met whose opening was not seen: how long nobody served is not known.
    pub(super) fn on_scan(&mut self) {
        if self.down.take().is_some() {
            self.gap = None;
        }
    }

    /// Whether anything of this has happened since.
    pub(crate) fn has_changed_since(&self, time: Nanos) -> bool {
        self.opened.max(self.closed) >= Some(time)
    }

    /// How long nobody served the port before the last opening, or has not until `now`; `None`
    /// if it was served all the time.
    pub fn gap(&self, now: Nanos) -> Option<Nanos> {
        self.down.map(|closed| now.saturating_sub(closed)).or(self.gap)
    }

    /// Takes over what another row knows: the latest times, and the longest gap. One that goes on
    /// comes before those that are over.
    pub(super) fn merge(&mut self, other: &Self) {
        self.opened = self.opened.max(other.opened);
        self.closed = self.closed.max(other.closed);
        self.gap = self.gap.max(other.gap);
        self.down = [self.down, other.down].into_iter().flatten().min();
    }
}
