//! The connections that have been in one state for the longest time.

use std::{sync::Arc, time::Duration};

use synfin_common::state::TcpState;

use super::owners::Owner;
use crate::trace::time::Nanos;

/// The states in which a connection can remain for long: it waits for the local application to
/// close, for the peer's FIN, for the ACK of the local FIN, or for the answer to a SYN.
pub const LINGERING_STATES: [TcpState; 4] =
    [TcpState::CloseWait, TcpState::FinWait2, TcpState::LastAck, TcpState::SynSent];

/// The connection that has been in a state for the longest time.
#[derive(Clone, Debug, PartialEq)]
pub struct Oldest {
    /// Time since when it is known to be in that state (CLOCK_MONOTONIC, nanoseconds).
    pub since: Nanos,
    /// Whether the connection was found in that state: it may have entered it before `since`.
    pub at_least: bool,
    /// The owning process; `None` if unknown.
    pub owner: Option<Arc<Owner>>,
    /// Number of connections that have been in that state for at least [`LONG`].
    pub long: u64,
}

/// A time in a state of [`LINGERING_STATES`] that is long for any of them.
pub const LONG: Duration = Duration::from_secs(30);

/// The oldest connection of a row in each of [`LINGERING_STATES`].
pub(super) type OldestPerState = [Option<Oldest>; LINGERING_STATES.len()];

/// Keeps the older of the two.
pub(super) fn keep_older(kept: &mut Option<Oldest>, other: Option<Oldest>) {
    let Some(mut other) = other else { return };
    other.long += kept.as_ref().map_or(0, |kept| kept.long);
    match kept {
        Some(kept) if kept.since <= other.since => kept.long = other.long,
        _ => *kept = Some(other),
    }
}
