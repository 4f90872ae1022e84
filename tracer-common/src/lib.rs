//! The ABI between synfin's kernel side and its user side: plain records, nothing else.
//!
//! Every layout is `repr(C)`, derives zerocopy's traits (so padding or an invalid bit pattern
//! does not compile) and has its size pinned by an assertion. Nothing here allocates, reads a
//! clock or knows about aya.
#![no_std]
#![forbid(unsafe_code)]

pub mod config;
pub mod event;
pub mod filter;
pub mod holder;
pub mod kfunc;
pub mod loss;
pub mod port_count;
pub mod reset;
pub mod state;
pub mod survey;
pub mod transition;
