//! The tables of individual TIME_WAITs.

use super::{
    early_time_waits::EarlyTimeWaits, time_wait_rows::TimeWaitRows,
    unconfirmed_time_waits::UnconfirmedTimeWaits,
};

/// The individual TIME_WAITs that the tracker keeps. Rows only count them.
#[derive(Debug, Default)]
pub(super) struct TimeWaitTables {
    pub(super) rows: TimeWaitRows,
    pub(super) unconfirmed: UnconfirmedTimeWaits,
    pub(super) early: EarlyTimeWaits,
}
