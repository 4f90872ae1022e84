//! The snapshots of the last minute, merged.

use std::collections::VecDeque;

use super::Snapshot;
use crate::trace::time::Nanos;

/// Length of the spans into which the minute is divided, so that not every snapshot is kept.
const SPAN: Nanos = 10_000_000_000;

/// Number of complete spans, besides the current one.
const SPANS: usize = 6;

/// The snapshots of about the last minute, or of the whole trace if it is shorter.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastMinute {
    /// The complete spans, oldest first.
    complete: VecDeque<Snapshot>,
    current: Snapshot,
    /// The complete spans and the current one, merged.
    whole: Snapshot,
}

impl LastMinute {
    /// Adds the next snapshot.
    pub(crate) fn add(&mut self, snapshot: &Snapshot) {
        if self.current.end.saturating_sub(self.current.start) >= SPAN {
            self.complete.push_back(std::mem::take(&mut self.current));
            if self.complete.len() > SPANS {
                self.complete.pop_front();
            }
            self.whole = Snapshot::default();
            self.complete.iter().for_each(|span| self.whole.append(span));
        }
        self.current.append(snapshot);
        self.whole.append(snapshot);
    }

    /// All of it as one snapshot.
    pub(crate) fn whole(&self) -> &Snapshot {
        &self.whole
    }

    /// Its spans, oldest first.
    pub(crate) fn spans(&self) -> impl DoubleEndedIterator<Item = &Snapshot> {
        self.complete.iter().chain([&self.current])
    }
}
