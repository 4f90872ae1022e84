//! The statistics of a row, or of several together, over an interval.

use super::{
    counters::Counters,
    ephemeral::Ephemeral,
    gauges::{Gauges, ScanGauges},
    listener_gap::ListenerUptime,
    oldest::{OldestPerState, keep_older},
};

/// What was counted in a row, or in several together, over an interval.
#[derive(Clone, Debug, Default)]
pub struct RowStats {
    /// What happened in the interval.
    pub counters: Counters,
    /// What is so at its end.
    pub gauges: Gauges,
    /// What was so at its start.
    pub gauges_at_start: Gauges,
    /// Sockets in TIME_WAIT at its end.
    pub time_wait_now: u64,
    /// The most there were.
    pub time_wait_peak: u64,
    /// What the last scan showed.
    pub scanned: ScanGauges,
    /// The most connections that were seen waiting for accept().
    pub accept_peak: u64,
    /// Since when the port is served.
    pub uptime: ListenerUptime,
    /// The connections that were in one state for longest, by
    /// [`LINGERING_STATES`](super::LINGERING_STATES).
    pub oldest: OldestPerState,
    /// How far the ports are used up toward the destination where most are; `None` if that is not
    /// known, and for servers.
    pub ephemeral: Option<Ephemeral>,
}

impl RowStats {
    /// Adds those of another row in the same interval.
    pub(super) fn add(&mut self, other: &Self) {
        self.counters.merge(&other.counters);
        self.gauges.merge(&other.gauges);
        self.gauges_at_start.merge(&other.gauges_at_start);
        self.time_wait_now += other.time_wait_now;
        self.time_wait_peak += other.time_wait_peak;
        self.scanned.merge(&other.scanned);
        self.accept_peak = self.accept_peak.max(other.accept_peak);
        self.uptime.merge(&other.uptime);
        for (kept, oldest) in self.oldest.iter_mut().zip(&other.oldest) {
            keep_older(kept, oldest.clone());
        }
        // Of several destinations, the one where most ports are used up is shown.
        if let Some(destination) = &other.ephemeral
            && self.ephemeral.is_none_or(|shown| shown.share() < destination.share())
        {
            self.ephemeral = Some(*destination);
        }
    }

    /// Goes on with those of the same row in the next interval.
    pub(super) fn merge_next(&mut self, later: &Self) {
        self.counters.merge(&later.counters);
        self.gauges = later.gauges;
        self.time_wait_now = later.time_wait_now;
        self.time_wait_peak = self.time_wait_peak.max(later.time_wait_peak);
        self.scanned = later.scanned;
        self.accept_peak = self.accept_peak.max(later.accept_peak);
        self.uptime.merge(&later.uptime);
        self.oldest.clone_from(&later.oldest);
        self.ephemeral = later.ephemeral;
    }
}
