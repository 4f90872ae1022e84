//! Counts of records.

use synfin_common::event::Kind;

use super::events::Events;
use crate::trace::counters::Counters;

/// Counts of records since the start of the trace.
#[derive(Debug, Default)]
pub(super) struct RecordCounts {
    /// The kernel side's counters as of the last tick.
    kernel: Counters,
    /// Records that reached the tracker, including filtered ones.
    pub(super) received: u64,
    /// Records that could not be decoded. `received` includes them.
    pub(super) unreadable: u64,
    /// Records of a later program that repeat an earlier one. `received` includes them.
    pub(super) repeated: u64,
    /// As of the last tick: runs that the kernel skipped, and whose events a later program took or did not.
    recovered: u64,
    missed: u64,
    /// Contradictions between records that show that one is missing.
    pub(super) gaps: u64,
}

impl RecordCounts {
    /// Updates the kernel side's counters. They only grow, even if a damaged recording says
    /// otherwise.
    pub(super) fn on_tick(&mut self, counters: &Counters) {
        let known = &mut self.kernel;
        let Counters { seen, lost, filtered, refused, missed, skipped, recovered } = counters;
        known.refused = known.refused.max(*refused);
        known.missed = known.missed.max(*missed);
        known.skipped = known.skipped.max(*skipped);
        known.recovered = known.recovered.max(*recovered);
        // A later program also took some transitions that had not been skipped. The tracker does not know
        // all of them: records are on their way, lost or filtered.
        let recovered = known.recovered.saturating_sub(self.repeated).min(known.skipped);
        self.recovered = self.recovered.max(recovered);
        let missed = known.missed.saturating_add(known.skipped - recovered);
        self.missed = self.missed.max(missed);
        for (known, new) in
            [(&mut known.seen, seen), (&mut known.lost, lost), (&mut known.filtered, filtered)]
        {
            known.iter_mut().zip(new).for_each(|(known, new)| *known = (*known).max(*new));
        }
    }

    /// Number of first records that are known to be lost.
    pub(super) fn lost_openings(&self) -> u64 {
        self.kernel.lost[Kind::Opening as usize].saturating_add(self.unreadable)
    }

    /// Whether every record that the last tick counted has arrived or is known to be lost.
    pub(super) fn is_caught_up(&self) -> bool {
        let [seen, lost, filtered] = self.kernel.totals();
        seen <= self.received.saturating_add(lost).saturating_add(filtered)
    }

    /// The counts of all records, given that the tracker filtered `filtered` of the received ones
    /// and holds `waiting`.
    pub(super) fn events(&self, filtered: u64, waiting: u64) -> Events {
        let by_kind = self.kernel.lost;
        let lifecycle = [Kind::Opening, Kind::Closing].map(|kind| by_kind[kind as usize]);
        let [seen, lost, excluded] = self.kernel.totals();
        Events {
            in_flight_before: 0,
            // The counters are as old as the last tick; records arrived since.
            seen: seen.max(self.received.saturating_add(lost).saturating_add(excluded)),
            delivered: self.received.saturating_sub(filtered + waiting),
            lost,
            refused: self.kernel.refused,
            lost_lifecycle_events: lifecycle.into_iter().fold(0, u64::saturating_add),
            filtered: excluded.saturating_add(filtered),
            missed: self.missed,
            recovered: self.recovered,
            gaps: self.gaps,
            unreadable: self.unreadable,
        }
    }
}
