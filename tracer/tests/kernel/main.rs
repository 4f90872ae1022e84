//! The kernel tests: synfin against real connections of the running kernel, in network
//! namespaces that each test makes for itself. They load eBPF programs and make namespaces, so
//! they run as root; `cargo xtask test` sees to it.

mod lab;
#[path = "../schema/mod.rs"]
mod schema;

mod accuracy;
mod burst;
mod counters;
mod doctor;
mod errors;
mod faults;
mod figures;
mod filters;
mod findings;
mod flight;
mod latency;
mod log;
mod memory;
mod mix;
mod otlp;
mod owners;
mod prometheus;
mod replay;
mod screen;
mod scripting;
mod serve;
mod soak;
mod survey;
mod time_wait;
