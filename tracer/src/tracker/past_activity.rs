//! What the kernel's timestamps of a socket prove about the time before it was found.

use synfin_common::state::TcpState;

use crate::{
    tcp::state::is_pending,
    trace::{event::Transition, scan::ScannedSocket, time::Nanos},
};

const MILLISECOND: Nanos = 1_000_000;

/// The kernel's timestamps are in ticks, of which the longest are 10 ms (`CONFIG_HZ=100`). A difference
/// of two can be one tick more than the time that passed.
const TICK: Nanos = 10 * MILLISECOND;

/// The last activity of a socket when it was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct PastActivity {
    /// When the socket was found (CLOCK_MONOTONIC, nanoseconds).
    found: Nanos,
    /// Milliseconds since the last segment was received (`rcv_tstamp`, `icsk_ack.lrcvtime`).
    received_ms: Option<u32>,
    /// Milliseconds since data was received or sent last, whichever is longer ago, or since the
    /// handshake (`icsk_ack.lrcvtime`, `lsndtime`).
    data_ms: Option<u32>,
}

impl PastActivity {
    /// Of a socket that a scan found.
    pub(super) fn at_scan(socket: &ScannedSocket) -> Self {
        Self {
            found: socket.time,
            received_ms: socket.idle_ms,
            data_ms: socket.data_received_ms.max(socket.data_sent_ms),
        }
    }

    /// Of a socket whose first record this is. Its timestamps are in the last record only.
    pub(super) fn at_transition(transition: &Transition) -> Self {
        Self {
            found: transition.time,
            received_ms: transition.closing.and_then(|closing| closing.idle_ms),
            data_ms: None,
        }
    }

    /// The earliest time at which the connection, in this state when it was found, is known to have
    /// existed.
    pub(super) fn existed_at(&self, state: TcpState) -> Nanos {
        // Before the handshake the timestamps can be those of an earlier connection of the socket.
        let longest = if is_pending(state) { None } else { self.received_ms.max(self.data_ms) };
        self.before(longest)
    }

    /// The earliest time at which the connection is known to have been in this state.
    pub(super) fn in_state_at(&self, state: TcpState) -> Nanos {
        match state {
            TcpState::Established => self.existed_at(state),
            // The segment that led to the state was received, and perhaps others since.
            TcpState::CloseWait | TcpState::FinWait2 | TcpState::Closing => {
                self.before(self.received_ms)
            }
            _ => self.found,
        }
    }

    fn before(&self, ms: Option<u32>) -> Nanos {
        let passed = Nanos::from(ms.unwrap_or(0)) * MILLISECOND;
        self.found.saturating_sub(passed.saturating_sub(TICK))
    }
}
