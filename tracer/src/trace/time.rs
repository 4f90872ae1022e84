//! Kernel time, and its conversion to dates.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `CLOCK_MONOTONIC` in nanoseconds: the time of all input.
pub type Nanos = u64;

/// A duration in nanoseconds, saturating.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The same moment on two clocks, to convert the time of a record to a date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockAnchor {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub monotonic_ns: u64,
    /// `CLOCK_REALTIME`, nanoseconds since 1970-01-01 UTC.
    pub realtime_ns: u64,
}

impl ClockAnchor {
    /// The date of `time`.
    pub fn date(&self, time: Nanos) -> std::time::SystemTime {
        std::time::UNIX_EPOCH + std::time::Duration::from_nanos(self.since_1970(time))
    }

    /// The date of `time` in nanoseconds since 1970-01-01 UTC; 0 for earlier dates.
    pub fn since_1970(&self, time: Nanos) -> Nanos {
        let offset = i128::from(time) - i128::from(self.monotonic_ns);
        let since_1970 = (i128::from(self.realtime_ns) + offset).max(0);
        u64::try_from(since_1970).unwrap_or(u64::MAX)
    }
}

/// A date as all outputs print it: RFC 3339, UTC, with microseconds.
pub(crate) fn date(time: std::time::SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}
