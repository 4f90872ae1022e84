//! The kernel tests: synfin traces real connections of the running kernel, in network namespaces
//! that each test creates. They load eBPF programs and create namespaces, so they run as root, as
//! `cargo xtask test` does.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    reason = "a test with a wrong number or without a value fails, as it should"
)]

mod lab;
#[path = "../schema/mod.rs"]
mod schema;

mod accept_waits;
mod accuracy;
mod burst;
mod counters;
mod cpus;
mod doctor;
mod ending;
mod errors;
mod faults;
mod filters;
mod findings;
mod flight;
mod flood;
mod handed_on;
mod interrupts;
mod last_close;
mod latency;
mod log;
mod memory;
mod mix;
mod mptcp;
mod namespaces;
mod older;
mod open;
mod otlp;
mod owners;
mod platform;
mod prometheus;
mod proxies;
mod readers;
mod replay;
mod scan;
mod screen;
mod scripting;
mod serve;
mod situations;
mod soak;
mod statistics;
mod time_wait;
