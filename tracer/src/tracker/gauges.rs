//! The gauges of a row: values at one moment.

use synfin_common::state::TcpState;

use super::{histogram::LatencyHistogram, segments::Segments};

/// The number of open connections of a row at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Connections by the number of their state.
    states: [u64; 13],
    /// Connections that are not established yet.
    pub pending: u64,
    /// Connections that are established or closing.
    pub open: u64,
    /// Those of them that are older than the trace.
    pub preexisting: u64,
}

impl Gauges {
    /// Number of connections in this state.
    pub fn state(&self, state: TcpState) -> u64 {
        self.states[state.number() as usize]
    }

    pub(super) fn enter(&mut self, state: TcpState) {
        self.states[state.number() as usize] += 1;
    }

    pub(super) fn leave(&mut self, state: TcpState) {
        self.states[state.number() as usize] -= 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (sum, count) in self.states.iter_mut().zip(other.states) {
            *sum += count;
        }
        self.pending += other.pending;
        self.open += other.open;
        self.preexisting += other.preexisting;
    }
}

/// The gauges that only a scan of the namespace's sockets shows, as of the last scan. Where a hook
/// reports orphans in FIN_WAIT2, their number is kept up to date between scans.
#[derive(Clone, Debug, Default)]
pub struct ScanGauges {
    /// Handshakes in SYN queues, waiting for their last ACK.
    pub half_open: u64,
    /// Orphans in FIN_WAIT2, which the kernel keeps in its TIME_WAIT table.
    pub fin_wait2_orphans: u64,
    /// Connections waiting for accept() on all listeners of the port.
    pub accept_queue: u64,
    /// Limit of the accept queue, the smallest if listeners differ; 0 if unknown.
    pub accept_limit: u64,
    /// Listeners on the port.
    pub listeners: u64,
    /// Established connections that retransmit without an answer.
    pub stalled: u64,
    /// Attempts whose SYN was sent again and has no answer yet.
    pub unanswered: u64,
    /// Smoothed round-trip times of established connections, microseconds.
    pub rtt: LatencyHistogram,
    /// Established connections that have retransmitted data since they began.
    pub retransmitting: u64,
    /// What established connections have sent since they began.
    pub(super) segments: Segments,
}

impl ScanGauges {
    /// Takes a listener's limit into account.
    pub(super) fn limit_queue(&mut self, limit: u64) {
        self.accept_limit = smaller_limit(self.accept_limit, limit);
    }

    /// Whether it counts other sockets than connections.
    pub(super) fn counts_others(&self) -> bool {
        self.half_open + self.fin_wait2_orphans + self.listeners > 0
    }

    /// Whether any of these gauges can change without a record.
    pub(super) fn can_change_without_record(&self) -> bool {
        self.half_open + self.fin_wait2_orphans + self.accept_queue + self.stalled + self.unanswered
            > 0
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.half_open += other.half_open;
        self.fin_wait2_orphans += other.fin_wait2_orphans;
        self.accept_queue += other.accept_queue;
        self.limit_queue(other.accept_limit);
        self.listeners += other.listeners;
        self.stalled += other.stalled;
        self.unanswered += other.unanswered;
        self.rtt.merge(&other.rtt);
        self.retransmitting += other.retransmitting;
        self.segments += other.segments;
    }
}

/// The smaller of two limits, where 0 means unknown.
pub(super) fn smaller_limit(one: u64, other: u64) -> u64 {
    [one, other].into_iter().filter(|&limit| limit > 0).min().unwrap_or(0)
}

/// What a scan found on a local port.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ScannedPort {
    /// Whether it has a listener.
    pub(super) listens: bool,
    /// Whether the accept queue of one of its listeners is full.
    pub(super) accept_queue_full: bool,
    /// Number of handshakes in SYN queues.
    pub(super) half_open: u64,
}
