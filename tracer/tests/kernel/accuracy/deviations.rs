//! `expected.rs` says what is so on the newest kernels. Where an older one does, shows or counts
//! otherwise, it is said here, and where that is known from.

use std::time::Duration;

use super::expected::Scenario;
use crate::lab::{self, Feature, since};

/// What a scenario cannot be played without, if not every kernel has it.
pub(super) fn needs(scenario: &Scenario) -> Option<Feature> {
    match scenario.name {
        "mptcp" => Some(Feature::Mptcp),
        "time_wait_destroyed" => Some(Feature::TimeWaitsDestroyed),
        _ => None,
    }
}

/// What has to be seen of it by synfin here.
pub(super) fn seen_here(scenario: &'static Scenario) -> Scenario {
    let (least, most) = scenario.took;
    let slack = lab::slowed(PROMPTLY) - PROMPTLY;
    let took = (least, most + slack.as_millis() as u32);
    let figures = match scenario.name {
        // Not all such resets are told of, so nobody knows how many there are.
        "closed_port" | "old_ack_to_a_listener"
            if lab::lacks_for_a_part(Feature::ResetsWithoutSocket) =>
        {
            &[]
        }
        _ => scenario.figures,
    };
    Scenario { took, figures, ..*scenario }
}

/// What is done at once on other machines is done within so much more time for every time that
/// this one is slower.
const PROMPTLY: Duration = Duration::from_millis(100);

/// Which counters have to move here.
pub(super) fn counted_here(scenario: &Scenario) -> String {
    let counted =
        if lab::counts_beginnings() { scenario.kernel } else { counted_at_ends(scenario) };
    let counters = counted.split(", ").filter(|counter| {
        // Of the last minute, no TIME_WAIT is over.
        lab::counts_beginnings() || !counter.starts_with("TW ")
    });
    counters.collect::<Vec<_>>().join(", ")
}

/// The same where the kernel counts a TIME_WAIT when its timer has run out.
fn counted_at_ends(scenario: &Scenario) -> &'static str {
    match scenario.name {
        // Of a minute in FIN_WAIT2, not all has passed.
        "long_fin_timeout" => "ActiveOpens 1",
        // Its own SYN-ACK is no segment that it expects (up to commit 23e89e8ee7be in 6.12).
        "self_connect" if !since(6, 1) => "ActiveOpens 1, TCPChallengeACK 1",
        _ => scenario.kernel,
    }
}
