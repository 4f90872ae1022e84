//! The connections that have been in one state for the longest time.

use std::sync::Arc;

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
}

/// The oldest connection of a row in each of [`LINGERING_STATES`].
pub(super) type OldestPerState = [Option<Oldest>; LINGERING_STATES.len()];

/// Keeps the older of the two.
pub(super) fn keep_older(kept: &mut Option<Oldest>, other: Option<Oldest>) {
    if let Some(other) = other
        && kept.as_ref().is_none_or(|kept| other.since < kept.since)
    {
        *kept = Some(other);
    }
}
