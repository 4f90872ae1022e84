//! The thresholds of all findings, which `docs/findings.md` lists as well.

use std::time::Duration;

/// Least number of connections for a finding about events that happen on healthy hosts as well.
pub const LEAST: u64 = 5;

/// Least share of a row's connections for such a finding (failures, resets, timeouts), in percent.
pub const SHARE_PCT: f64 = 1.0;

/// Least share of handshakes that retransmitted, in percent.
pub const RETRANSMITTED_PCT: f64 = 1.0;

/// Least share of SYN cookies that did not come back, in percent: each client of a healthy load
/// returns its cookie.
pub const COOKIES_LOST_PCT: f64 = 50.0;

/// Least share of SYN-ACKs that were retransmitted without an answer, in percent of these and of
/// completed handshakes.
pub const UNANSWERED_PCT: f64 = 10.0;

/// Least fill level of an accept queue, in percent of its limit.
pub const ACCEPT_QUEUE_PCT: f64 = 75.0;

/// Least share of ephemeral ports toward a destination that are in use, in percent.
pub const EPHEMERAL_PCT: f64 = 80.0;

/// Time within which the ephemeral ports will be exhausted.
pub const EPHEMERAL_SOON: Duration = Duration::from_mins(5);

/// Least age of a connection in CLOSE_WAIT.
pub const CLOSE_WAIT_AGE: Duration = Duration::from_secs(30);

/// Least time without a received segment before an abnormal end for a connection to count as idle.
pub const IDLE: Duration = Duration::from_secs(20);

/// Least time for which a port had no listener.
pub const LISTENER_GAP: Duration = Duration::from_millis(10);
