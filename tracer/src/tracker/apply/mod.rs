//! How each kind of input changes the tracker: additions to `Tracker` only, so nothing imports these.

mod accept;
mod close;
mod filter;
pub(in crate::tracker) mod time_wait;
