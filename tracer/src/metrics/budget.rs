//! Limits on the number of series.

use synfin_common::state::TcpState;

use super::BOUNDS_US;
use crate::tcp::{close_reason::CloseReason, handshake::Unmeasured};

/// Maximum number of series of a row: two histograms, each reason, cause and state, and single
/// metrics. A test checks it.
pub(super) const SERIES_OF_A_ROW: usize = 2 * (BOUNDS_US.len() + 3)
    + CloseReason::ALL.len()
    + Unmeasured::ALL.len()
    + TcpState::ALL.len()
    + 19;

/// Maximum number of series of the host.
pub(super) const SERIES_OF_THE_HOST: usize = 17;
