//! The connections that have been in one state for longest.

use std::sync::Arc;

use synfin_common::state::TcpState;

use super::owners::Owner;
use crate::trace::time::Nanos;

/// The states in which a connection waits for someone: for the local application to close, for the
/// peer's FIN, for the ACK of the local FIN, for the answer to a SYN.
pub const LINGERING_STATES: [TcpState; 4] =
    [TcpState::CloseWait, TcpState::FinWait2, TcpState::LastAck, TcpState::SynSent];

/// The connection that has been in a state for longest.
#[derive(Clone, Debug, PartialEq)]
pub struct Oldest {
    /// Time since which it is known to be in that state (CLOCK_MONOTONIC, nanoseconds).
    pub since: Nanos,
    /// It was already in that state when it was found: it may have been for longer.
    pub at_least: bool,
    /// The owning process, if known.
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
