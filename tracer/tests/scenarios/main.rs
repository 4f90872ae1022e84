//! The tracker's output for a kernel's reports: single scenarios on a [fake
//! kernel](synfin_testkit), properties on a model of TCP, and recordings of real traffic.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    reason = "a test with a wrong number or without a value fails, as it should"
)]

mod accept_queue;
mod accept_waits;
#[path = "../accuracy/mod.rs"]
mod accuracy;
mod close_reasons;
mod closing;
mod ephemeral_ports;
mod findings;
mod late_evidence;
mod listeners;
mod mptcp;
mod older;
mod owners;
mod port_counts;
mod properties;
mod scans;
mod stalled;
mod syn_flood;
mod time_wait_hooks;
mod time_wait_inferred;
mod traffic;
