//! What is so at a moment in a row.

use synfin_common::state::TcpState;

/// What is so at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Living connections by the number of their state.
    states: [u64; 13],
    /// Of these, those not established yet.
    pub pending: u64,
    /// Of these, those established, whatever they are closing.
    pub open: u64,
}

impl Gauges {
    /// How many are in this state.
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
    }
}

/// What the last scan over the namespace's sockets showed; orphans in FIN_WAIT2 are followed from
/// there on where the kernel shows what becomes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanGauges {
    /// Handshakes waiting for their last ACK.
    pub half_open: u64,
    /// Orphans in FIN_WAIT2 that the kernel keeps beside TIME_WAIT.
    pub fin_wait2_orphans: u64,
    /// Connections waiting for accept(), of all listeners on the port.
    pub accept_queue: u64,
    /// The limit of that on one listener, the least if they differ; 0: there is none.
    pub accept_limit: u64,
    /// Listeners on the port.
    pub listeners: u64,
    /// Connections that retransmit and are not answered.
    pub stalled: u64,
}

impl ScanGauges {
    /// A listener has this limit.
    pub(super) fn limit_queue(&mut self, limit: u64) {
        self.accept_limit = least_limit(self.accept_limit, limit);
    }

    /// Whether some of it goes away without a record.
    pub(super) fn will_pass(&self) -> bool {
        self.half_open + self.fin_wait2_orphans + self.accept_queue + self.stalled > 0
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.half_open += other.half_open;
        self.fin_wait2_orphans += other.fin_wait2_orphans;
        self.accept_queue += other.accept_queue;
        self.limit_queue(other.accept_limit);
        self.listeners += other.listeners;
        self.stalled += other.stalled;
    }
}

/// Of two limits the lesser, where 0 is none.
pub(super) fn least_limit(one: u64, other: u64) -> u64 {
    [one, other].into_iter().filter(|&limit| limit > 0).min().unwrap_or(0)
}
