//! Counts of the kernel's records.

/// Counts of the kernel's records.
/// `in_flight_before + seen == delivered + lost + filtered + in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Records in flight when the interval began.
    pub in_flight_before: u64,
    /// Records that hooks tried to write.
    pub seen: u64,
    /// Records that reached the tracker.
    pub delivered: u64,
    /// Records that the ring buffer did not take.
    pub lost: u64,
    /// The part of `lost` for which it had room: its lock gave up (since 6.15).
    pub refused: u64,
    /// Lost records of first and last transitions. If there are any, counts are lower bounds.
    pub lost_lifecycle_events: u64,
    /// Records that a filter excluded.
    pub filtered: u64,
    /// Runs of hooks that the kernel skipped, without a record.
    pub missed: u64,
    /// Runs of the main hook that the kernel skipped, and whose events a later program took.
    pub recovered: u64,
    /// Contradictions between records that show that one is missing.
    pub gaps: u64,
    /// Records that could not be decoded. `delivered` includes them.
    pub unreadable: u64,
}

impl Events {
    /// Records between the hooks and the tracker: in the ring buffer, or held until the filters can
    /// be decided. Never negative; 0 at the end of a trace.
    pub fn in_flight(&self) -> i64 {
        let known = self.delivered.saturating_add(self.lost).saturating_add(self.filtered);
        let came = i128::from(self.in_flight_before) + i128::from(self.seen);
        let in_flight = came - i128::from(known);
        i64::try_from(in_flight).unwrap_or(i64::MAX)
    }

    /// Whether counts of opened and closed connections are lower bounds.
    pub fn are_lower_bounds(&self) -> bool {
        [self.lost_lifecycle_events, self.missed, self.gaps, self.unreadable]
            .iter()
            .any(|&count| count > 0)
    }

    /// Adds the counts of a later interval.
    pub(crate) fn add(&mut self, later: &Self) {
        self.seen += later.seen;
        self.delivered += later.delivered;
        self.lost += later.lost;
        self.refused += later.refused;
        self.lost_lifecycle_events += later.lost_lifecycle_events;
        self.filtered += later.filtered;
        self.missed += later.missed;
        self.recovered += later.recovered;
        self.gaps += later.gaps;
        self.unreadable += later.unreadable;
    }

    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            in_flight_before: earlier.in_flight().try_into().unwrap_or(0),
            seen: self.seen - earlier.seen,
            delivered: self.delivered - earlier.delivered,
            lost: self.lost - earlier.lost,
            refused: self.refused - earlier.refused,
            lost_lifecycle_events: self.lost_lifecycle_events - earlier.lost_lifecycle_events,
            filtered: self.filtered - earlier.filtered,
            missed: self.missed - earlier.missed,
            recovered: self.recovered - earlier.recovered,
            gaps: self.gaps - earlier.gaps,
            unreadable: self.unreadable - earlier.unreadable,
        }
    }
}
