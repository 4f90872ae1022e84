//! Deviations of older kernels from `expected.rs`, which holds for the newest kernels, with the
//! kernel source of each.

use std::time::Duration;

use super::expected::Scenario;
use crate::lab::{self, Feature, since};

/// The kernel feature that a scenario needs, if not every kernel has it.
pub(super) fn needs(scenario: &Scenario) -> Option<Feature> {
    match scenario.name {
        "mptcp" => Some(Feature::Mptcp),
        "mptcp_unread_data" | "mptcp_linger0" | "mptcp_disconnected" => {
            Some(Feature::MptcpResetReasons)
        }
        name if name.starts_with("mptcp_") => Some(Feature::MptcpResets),
        "time_wait_destroyed" => Some(Feature::TimeWaitsDestroyed),
        _ => None,
    }
}

/// The expected result of a scenario on this kernel.
pub(super) fn seen_here(scenario: &'static Scenario) -> Scenario {
    let (least, most) = scenario.took;
    let slack = lab::slowed(PROMPTLY).saturating_sub(PROMPTLY);
    let took = (least, most + slack.as_millis() as u32);
    let columns = match scenario.name {
        // The kernel does not report all such resets, so their number is unknown.
        "closed_port" | "old_ack_to_a_listener"
            if lab::lacks_for_a_part(Feature::ResetsWithoutSocket) =>
        {
            &[]
        }
        _ => scenario.columns,
    };
    Scenario { took, columns, ..*scenario }
}

/// The additional time for an immediate answer, for each factor by which this machine is
/// slower.
const PROMPTLY: Duration = Duration::from_millis(100);

/// The expected changes of this kernel's counters.
pub(super) fn counted_here(scenario: &Scenario) -> String {
    let counted = if lab::counts_entries() { scenario.kernel } else { counted_at_expiry(scenario) };
    let counters = counted.split(", ").filter(|counter| {
        // No TIME_WAIT has expired yet.
        lab::counts_entries() || !counter.starts_with("TW ")
    });
    counters.collect::<Vec<_>>().join(", ")
}

/// The same where the kernel counts a TIME_WAIT when its timer expires.
fn counted_at_expiry(scenario: &Scenario) -> &'static str {
    match scenario.name {
        // FIN_WAIT2 has not timed out yet.
        "long_fin_timeout" => "ActiveOpens 1",
        // It does not expect its own SYN-ACK (before commit 23e89e8ee7be in 6.12).
        "self_connect" if !since(6, 1) => "ActiveOpens 1, TCPChallengeACK 1",
        _ => scenario.kernel,
    }
}
