//! How many series the metrics have at most.

use synfin_common::state::TcpState;

use super::BOUNDS_US;
use crate::tcp::{close_reason::CloseReason, handshake::Unmeasured};

/// Series that a row has at most: buckets of two histograms with their sums and counts, each reason,
/// cause and state, and what there is once; see the test.
pub(super) const SERIES_OF_A_ROW: usize = 2 * (BOUNDS_US.len() + 3)
    + CloseReason::ALL.len()
    + Unmeasured::ALL.len()
    + TcpState::ALL.len()
    + 16;

/// Series that are not a row's.
pub(super) const SERIES_OF_THE_HOST: usize = 16;
