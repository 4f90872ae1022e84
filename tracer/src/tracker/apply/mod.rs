//! Methods of `Tracker` that apply each kind of input. Nothing imports these modules.

mod accept;
mod admission;
mod close;
mod filter;
mod kernel_counters;
mod mptcp;
mod namespaces;
mod owners;
mod port_counts;
mod port_pools;
mod role;
mod scan;
mod scanned_time_wait;
mod snapshot;
mod time_wait;
mod traffic;
mod transition;
