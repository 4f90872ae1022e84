//! All that the tracker keeps of TIME_WAITs besides the counts in rows.

use super::{
    early_time_waits::EarlyTimeWaits, time_wait_rows::TimeWaitRows,
    unconfirmed_time_waits::UnconfirmedTimeWaits,
};

/// What is known of single TIME_WAITs.
#[derive(Debug, Default)]
pub(super) struct TimeWaitTables {
    pub(super) rows: TimeWaitRows,
    pub(super) unconfirmed: UnconfirmedTimeWaits,
    pub(super) early: EarlyTimeWaits,
}
