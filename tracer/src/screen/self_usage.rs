//! CPU and memory usage of synfin itself, measured at each refresh.

use super::update::SelfUsage;
use crate::{
    host::{clock, own_usage::OwnUsage},
    trace::time::Nanos,
};

/// Minimum interval in nanoseconds for a meaningful CPU share.
const MIN_INTERVAL: Nanos = 100_000_000;

/// Measures the usage since the last reading.
pub(crate) struct Meter {
    at: Nanos,
    cpu_us: u64,
    last_pct: f64,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self { at: clock::monotonic_ns(), cpu_us: OwnUsage::now().cpu_us, last_pct: 0.0 }
    }

    /// The usage since the last call.
    pub(crate) fn read(&mut self) -> SelfUsage {
        let (at, usage) = (clock::monotonic_ns(), OwnUsage::now());
        let wall = at - self.at;
        if wall >= MIN_INTERVAL {
            let cpu = usage.cpu_us.saturating_sub(self.cpu_us) as f64 * 1e3;
            *self = Self { at, cpu_us: usage.cpu_us, last_pct: 100.0 * cpu / wall as f64 };
        }
        SelfUsage { cpu_pct: self.last_pct, bytes: usage.resident }
    }
}
