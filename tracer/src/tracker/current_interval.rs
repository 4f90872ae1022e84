//! The interval since the last snapshot.

use super::{events::Events, port_pools::HeldPorts};
use crate::trace::{counters::KERNEL_COUNTERS, time::Nanos};

/// The interval since the last snapshot.
#[derive(Debug)]
pub(super) struct CurrentInterval {
    pub(super) start: Nanos,
    /// The tracker's counts of records at the start of the interval.
    pub(super) events_at_start: Events,
    /// Growth of the kernel's own [`KERNEL_COUNTERS`] in the interval.
    pub(super) kernel_counts: [u64; KERNEL_COUNTERS.len()],
    /// The ephemeral ports that clients held at the start; `None` in the first interval.
    pub(super) held_ports: Option<HeldPorts>,
}

impl CurrentInterval {
    pub(super) fn begin(start: Nanos, events_at_start: Events) -> Self {
        Self { start, events_at_start, kernel_counts: Default::default(), held_ports: None }
    }
}
