//! The ABI between the kernel side and the user side of synfin: the layouts of records, maps and
//! globals. Recordings contain the records as they are: to change a layout or a number is to change
//! the recording format.
//!
//! Every layout is `repr(C)` and derives zerocopy's traits, so that padding or an invalid bit
//! pattern does not compile; assertions check the sizes of records. Nothing here allocates, reads a
//! clock or depends on aya.
#![no_std]
#![forbid(unsafe_code)]

pub mod config;
pub mod cpu_ring;
pub mod event;
pub mod event_counts;
pub mod file_table;
pub mod filter;
pub mod holder;
pub mod kfunc;
pub mod port_count;
pub mod reset;
pub mod scan;
pub mod state;
pub mod taken;
pub mod tracepoint;
