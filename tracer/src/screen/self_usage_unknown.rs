//! A build that only reads recordings does not measure the usage of synfin. The header omits it.

#![expect(clippy::unused_self, reason = "the signatures are those of self_usage.rs")]

use super::update::SelfUsage;

pub(crate) struct Meter;

impl Meter {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn read(&mut self) -> SelfUsage {
        SelfUsage { cpu_pct: 0.0, bytes: 0 }
    }
}
