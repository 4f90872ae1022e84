//! Limits on the number of series.

use super::{BOUNDS_US, RETRANSMITTED_BOUNDS_US};
use crate::tcp::{close_reason::CloseReason, handshake::Unmeasured, state::OPEN_STATES};

/// Maximum number of series of a row: two histograms, each reason, cause and state, and single
/// metrics. A test checks it.
pub(super) const SERIES_OF_A_ROW: usize = BOUNDS_US.len()
    + RETRANSMITTED_BOUNDS_US.len()
    + 2 * 3
    + CloseReason::ALL.len()
    + Unmeasured::ALL.len()
    + OPEN_STATES.len()
    + 21;

/// Maximum number of samples of findings, the most urgent first.
pub(super) const MOST_FINDINGS: usize = 50;

/// Maximum number of series of the host.
pub(super) const SERIES_OF_THE_HOST: usize = 23 + MOST_FINDINGS;
