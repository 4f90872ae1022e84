//! What the tracker does with each kind of input: methods of `Tracker` only, so nothing imports these
//! modules.

mod accept;
mod close;
mod filter;
mod port_counts;
mod scan;
mod snapshot;
mod time_wait;
mod transition;
