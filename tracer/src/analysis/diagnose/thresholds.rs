//! From where on something is worth a finding. All of it is here, and in `docs/findings.md`.

use std::time::Duration;

/// Fewer than this are no pattern, of whatever happens to connections on a healthy host as well.
pub const LEAST: u64 = 5;

/// So many percent of the connections of a row, of what happens to connections on a healthy host as
/// well: failures, resets, timeouts.
pub const SHARE_PCT: f64 = 1.0;

/// So many percent of a row's handshakes had to send something again.
pub const RETRANSMITTED_PCT: f64 = 1.0;

/// An accept queue was so full, percent of its limit.
pub const ACCEPT_QUEUE_PCT: f64 = 75.0;

/// So many percent of the ephemeral ports toward a destination are taken.
pub const EPHEMERAL_PCT: f64 = 80.0;

/// None of them will be left within this time.
pub const EPHEMERAL_SOON: Duration = Duration::from_mins(5);

/// An application has not closed for so long after the peer did.
pub const CLOSE_WAIT_AGE: Duration = Duration::from_secs(30);

/// A connection had received nothing for so long when it ended badly: it was idle.
pub const IDLE: Duration = Duration::from_secs(20);

/// A port had no listener for so long.
pub const LISTENER_GAP: Duration = Duration::from_millis(10);
