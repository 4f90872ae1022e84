//! What the screen shows over time: the last refresh, the last minute, all since the start.

use std::collections::VecDeque;

use crate::{
    tcp::{close_reason::CloseReason, group_by::By},
    trace::time::Nanos,
    tracker::{RowName, RowSnapshot, Snapshot},
};

/// A minute is kept in spans of this length, so that not every refresh of it is.
const SPAN: Nanos = 10 * SECOND;

/// Spans that make a minute, besides the one that goes on.
const SPANS: usize = 6;

const SECOND: Nanos = 1_000_000_000;

/// A refresh that is shorter is part of the one before.
const LEAST_SECONDS: f64 = 0.1;

/// Refreshes whose rates are kept for small charts.
const RATES: usize = 120;

/// How many connections per second began, and went wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    pub(crate) new: f64,
    pub(crate) bad: f64,
}

/// Where something goes: the last ten to twenty seconds beside the whole minute.
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

/// The intervals that were cut, put together.
#[derive(Clone, Default)]
pub(crate) struct History {
    /// The last refresh.
    last: Snapshot,
    /// Spans that are over, the oldest first.
    spans: VecDeque<Snapshot>,
    /// The one that goes on.
    span: Snapshot,
    /// All of these.
    minute: Snapshot,
    total: Snapshot,
    rates: VecDeque<Rates>,
}

impl History {
    /// The next interval is over; of all its rows, the rates are these.
    pub(crate) fn add(&mut self, snapshot: Snapshot, rates: Rates) {
        if self.span.end.saturating_sub(self.span.start) >= SPAN {
            self.spans.push_back(std::mem::take(&mut self.span));
            if self.spans.len() > SPANS {
                self.spans.pop_front();
            }
            self.minute = Snapshot::default();
            for span in &self.spans {
                add(&mut self.minute, span);
            }
        }
        for kept in [&mut self.span, &mut self.minute, &mut self.total] {
            add(kept, &snapshot);
        }
        // What is left at the end has no rates of its own.
        if snapshot.seconds() < LEAST_SECONDS && !self.rates.is_empty() {
            return self.last.go_on(&snapshot);
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

    /// About the last minute, or all if it is less.
    pub(crate) fn minute(&self) -> &Snapshot {
        &self.minute
    }

    /// All since the start.
    pub(crate) fn total(&self) -> &Snapshot {
        &self.total
    }

    /// Of each refresh, the oldest first.
    pub(crate) fn rates(&self) -> impl DoubleEndedIterator<Item = Rates> {
        self.rates.iter().copied()
    }

    /// A row over each span of the last minute, the oldest first, with the span's seconds.
    pub(crate) fn spans_of(&self, by: By, row: &RowName) -> Vec<(f64, Option<RowSnapshot>)> {
        let spans = self.spans.iter().chain([&self.span]);
        spans.map(|span| (span.seconds(), span.row(by, row))).collect()
    }

    /// How many connections ended for this reason in the last minute, and how that has changed.
    pub(crate) fn ended(&self, reason: CloseReason) -> (u64, Trend) {
        let recent: Vec<_> = self.spans.back().into_iter().chain([&self.span]).collect();
        let rate = |of: &[&Snapshot]| {
            let count: u64 = of.iter().map(|snapshot| snapshot.ended(reason)).sum();
            count as f64 / of.iter().map(|snapshot| snapshot.seconds()).sum::<f64>().max(1.0)
        };
        let trend = Trend::of(rate(&recent), rate(&[&self.minute]));
        (self.minute.ended(reason), trend)
    }
}

fn add(sum: &mut Snapshot, later: &Snapshot) {
    if sum.end == 0 {
        sum.clone_from(later);
    } else {
        sum.go_on(later);
    }
}
