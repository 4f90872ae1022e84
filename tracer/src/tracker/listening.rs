//! Since when a port is served, and how long it was not.

use crate::input::Nanos;

/// The listeners of a port over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// When a listener was last opened, if that was seen.
    pub opened: Option<Nanos>,
    /// When the last one that was left was closed, if that was seen.
    pub closed: Option<Nanos>,
    /// Nanoseconds from there to the next opening.
    pub gap: Option<Nanos>,
}

impl Listening {
    /// A listener is opened; `is_first`: there is no other.
    pub(super) fn opens(&mut self, time: Nanos, is_first: bool) {
        self.opened = Some(time);
        if let Some(closed) = self.closed.filter(|_| is_first) {
            self.gap = Some(time.saturating_sub(closed));
        }
    }

    /// The last listener is closed.
    pub(super) fn closes(&mut self, time: Nanos) {
        self.closed = Some(time);
    }

    /// Whether anything of this has happened since.
    pub(super) fn has_changed_since(&self, time: Nanos) -> bool {
        self.opened.max(self.closed) >= Some(time)
    }

    /// How long nobody served the port before the last opening, or has not until `now`; `None`
    /// if it was served all the time.
    pub fn gap(&self, now: Nanos) -> Option<Nanos> {
        match self.closed {
            Some(closed) if self.opened.is_none_or(|opened| opened < closed) => {
                Some(now.saturating_sub(closed))
            }
            _ => self.gap,
        }
    }

    /// Takes over what another row knows: the latest times, and the longest gap.
    pub(super) fn merge(&mut self, other: &Self) {
        self.opened = self.opened.max(other.opened);
        self.closed = self.closed.max(other.closed);
        self.gap = self.gap.max(other.gap);
    }
}
