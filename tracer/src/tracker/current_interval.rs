//! The interval that the next snapshot will be about.

use super::events::Events;
use crate::trace::{counters::KERNEL_COUNTERS, time::Nanos};

/// The interval since the last snapshot.
#[derive(Debug)]
pub(super) struct CurrentInterval {
    pub(super) start: Nanos,
    /// The tracker's counts of events at its start.
    pub(super) events_at_start: Events,
    /// What the kernel counted in it, by [`KERNEL_COUNTERS`].
    pub(super) kernel_counts: [u64; KERNEL_COUNTERS.len()],
}

impl CurrentInterval {
    pub(super) fn begin(start: Nanos, events_at_start: Events) -> Self {
        Self { start, events_at_start, kernel_counts: Default::default() }
    }
}
