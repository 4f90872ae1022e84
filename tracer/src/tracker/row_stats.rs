//! The statistics of a row, or of several together, over an interval.

use synfin_common::state::TcpState;

use super::{
    accept_fifo::Unaccepted,
    counters::Counters,
    ephemeral::Ephemeral,
    gauges::{Gauges, ScanGauges},
    listener_gap::ListenerUptime,
    oldest::{LINGERING_STATES, Oldest, OldestPerState, keep_older},
};
use crate::tcp::close_reason::CloseReason;

/// The statistics of a row, or of several together, over an interval.
#[derive(Clone, Debug, Default)]
pub struct RowStats {
    /// Counts over the interval.
    pub counters: Counters,
    /// Open connections at the end of the interval.
    pub gauges: Gauges,
    /// Open connections at the start of the interval.
    pub gauges_at_start: Gauges,
    /// Sockets in TIME_WAIT at the end of the interval.
    pub time_wait_now: u64,
    /// Largest number of sockets in TIME_WAIT during the interval.
    pub time_wait_peak: u64,
    /// Gauges from the last scan.
    pub scanned: ScanGauges,
    /// Largest number of connections waiting for accept() that was found on one listener.
    pub accept_peak: u64,
    /// Largest number of half-open handshakes that a scan found.
    pub half_open_peak: u64,
    /// The longest time in which connections waited for accept() and none was accepted, until the end
    /// of the interval; `None` if none waits.
    pub unaccepted: Option<Unaccepted>,
    /// When listeners were opened and closed.
    pub uptime: ListenerUptime,
    /// The oldest connection in each of [`LINGERING_STATES`].
    pub oldest: OldestPerState,
    /// Use of the ephemeral ports toward the destination with the highest share; `None` if unknown,
    /// and for servers.
    pub ephemeral: Option<Ephemeral>,
}

impl RowStats {
    /// The connection that has been in this state for longest.
    pub fn oldest(&self, state: TcpState) -> Option<&Oldest> {
        let index = LINGERING_STATES.iter().position(|&oldest| oldest == state)?;
        self.oldest[index].as_ref()
    }

    /// The share of the ephemeral ports that are in use; `None` if unknown, also because connect()
    /// found no port in the interval though fewer are known to be in use at its end.
    pub fn ephemeral_share(&self) -> Option<f64> {
        let share = self.ephemeral?.share();
        let found_none = self.counters.ended(CloseReason::ConnectLocalFailure) > 0;
        (share >= 1.0 || !found_none).then_some(share)
    }

    /// Adds the statistics of another row in the same interval.
    pub(super) fn add(&mut self, other: &Self) {
        self.counters.merge(&other.counters);
        self.gauges.merge(&other.gauges);
        self.gauges_at_start.merge(&other.gauges_at_start);
        self.time_wait_now += other.time_wait_now;
        self.time_wait_peak += other.time_wait_peak;
        self.scanned.merge(&other.scanned);
        self.accept_peak = self.accept_peak.max(other.accept_peak);
        self.half_open_peak += other.half_open_peak;
        self.unaccepted = [self.unaccepted, other.unaccepted]
            .into_iter()
            .flatten()
            .max_by_key(|time| time.length());
        self.uptime.merge(&other.uptime);
        for (kept, oldest) in self.oldest.iter_mut().zip(&other.oldest) {
            keep_older(kept, oldest.clone());
        }
        // Of several destinations, the one with the largest share of used ports is shown.
        if let Some(destination) = &other.ephemeral
            && self.ephemeral.is_none_or(|shown| shown.share() < destination.share())
        {
            self.ephemeral = Some(*destination);
        }
    }

    /// Merges the statistics of the same row in the next interval.
    pub(super) fn merge_next(&mut self, later: &Self) {
        self.counters.merge(&later.counters);
        self.gauges = later.gauges;
        self.time_wait_now = later.time_wait_now;
        self.time_wait_peak = self.time_wait_peak.max(later.time_wait_peak);
        self.scanned.clone_from(&later.scanned);
        self.accept_peak = self.accept_peak.max(later.accept_peak);
        self.half_open_peak = self.half_open_peak.max(later.half_open_peak);
        self.unaccepted = later.unaccepted;
        self.uptime.merge(&later.uptime);
        self.oldest.clone_from(&later.oldest);
        self.ephemeral = later.ephemeral;
    }
}
