//! How each kind of input changes the tracker: additions to `Tracker` only, so nothing imports these.

mod accept;
mod close;
mod filter;
mod port_counts;
mod scan;
mod snapshot;
mod time_wait;
mod transition;
