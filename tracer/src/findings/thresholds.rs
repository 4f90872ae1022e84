//! The thresholds of all findings, which `docs/findings.md` lists as well. That of CLOSE_WAIT is
//! [`LONG`](crate::tracker::LONG).

use std::time::Duration;

/// Least number of connections for a finding about events that happen on healthy hosts as well.
pub const LEAST: u64 = 3;

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

/// Least time in which connections waited and accept() took none.
pub const UNACCEPTED: Duration = Duration::from_secs(1);

/// Least share of segments that were retransmitted, in percent.
pub const LOST_PCT: f64 = 1.0;

/// Least share of open connections that retransmit without an answer, in percent: a server always has
/// some clients that have vanished.
pub const STALLED_PCT: f64 = 10.0;

/// Least share of ephemeral ports toward a destination that are in use, in percent.
pub const EPHEMERAL_PCT: f64 = 80.0;

/// Time within which the ephemeral ports will be exhausted.
pub const EPHEMERAL_SOON: Duration = Duration::from_mins(5);

/// Least time without a received segment before an abnormal end for a connection to count as idle.
pub const IDLE: Duration = Duration::from_secs(20);

/// How much longer than the shortest tenth of such times the longest tenth may be if one timer ends
/// all: a factor.
pub const IDLE_SPREAD: f64 = 1.25;

/// Least share of resets by peers that end short connections, in percent, for these to look like
/// health checks.
pub const CHECKS_PCT: f64 = 80.0;

/// Least time for which a port had no listener.
pub const LISTENER_GAP: Duration = Duration::from_millis(10);
