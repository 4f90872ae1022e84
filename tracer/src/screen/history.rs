//! The data of the screen over time: the last refresh, the last minute, and the total since the
//! start.

use std::collections::VecDeque;

use crate::{
    tcp::{close_reason::CloseReason, group_by::By},
    tracker::{LastMinute, RowName, RowSnapshot, Snapshot},
};

/// A shorter refresh is merged into the previous one.
const MIN_SECONDS: f64 = 0.1;

/// Number of refreshes whose rates are kept for the sparklines.
const RATES: usize = 120;

/// New connections per second, and abnormal closes per second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    pub(crate) new: f64,
    pub(crate) bad: f64,
}

/// The change of a count: the last ten to twenty seconds compared with the whole minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trend {
    Up,
    Level,
    Down,
}

impl Trend {
    fn of(recent: f64, minute: f64) -> Self {
        const CHANGED: f64 = 1.5;
        if recent > minute * CHANGED {
            Self::Up
        } else if recent * CHANGED < minute {
            Self::Down
        } else {
            Self::Level
        }
    }
}

/// The snapshots of all refreshes, merged.
#[derive(Clone, Default)]
pub(crate) struct History {
    /// The last refresh.
    last: Snapshot,
    minute: LastMinute,
    total: Snapshot,
    rates: VecDeque<Rates>,
}

impl History {
    /// Adds the next interval. `rates` are those of all its rows together.
    pub(crate) fn add(&mut self, snapshot: Snapshot, rates: Rates) {
        self.minute.add(&snapshot);
        self.total.append(&snapshot);
        // The short interval at the end of a trace has no rates of its own.
        if snapshot.seconds() < MIN_SECONDS && !self.rates.is_empty() {
            return self.last.merge_next(&snapshot);
        }
        self.last = snapshot;
        self.rates.push_back(rates);
        if self.rates.len() > RATES {
            self.rates.pop_front();
        }
    }

    /// The last refresh.
    pub(crate) fn last(&self) -> &Snapshot {
        &self.last
    }

    /// About the last minute, or the whole trace if it is shorter.
    pub(crate) fn minute(&self) -> &Snapshot {
        self.minute.whole()
    }

    /// The total since the start.
    pub(crate) fn total(&self) -> &Snapshot {
        &self.total
    }

    /// The rates per refresh, oldest first.
    pub(crate) fn rates(&self) -> impl DoubleEndedIterator<Item = Rates> {
        self.rates.iter().copied()
    }

    /// A row in each span of the last minute, oldest first, with the span's length in seconds.
    /// `None` where the span lacks the row.
    pub(crate) fn spans_of(&self, by: By, row: &RowName) -> Vec<(f64, Option<RowSnapshot>)> {
        self.minute.spans().map(|span| (span.seconds(), span.row(by, row))).collect()
    }

    /// Number of connections closed for this reason in the last minute, and its trend.
    pub(crate) fn ended(&self, reason: CloseReason) -> (u64, Trend) {
        let recent: Vec<_> = self.minute.spans().rev().take(2).collect();
        let rate = |snapshots: &[&Snapshot]| {
            let count: u64 = snapshots.iter().map(|snapshot| snapshot.ended(reason)).sum();
            count as f64 / snapshots.iter().map(|snapshot| snapshot.seconds()).sum::<f64>().max(1.0)
        };
        let trend = Trend::of(rate(&recent), rate(&[self.minute()]));
        (self.minute().ended(reason), trend)
    }
}
