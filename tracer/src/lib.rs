//! synfin traces every TCP connection of a Linux host from SYN to FIN.
//!
//! Data flows one way: the kernel side delivers bytes in the frames of a recording
//! ([`trace::recording`]); [`trace::decode`] decodes them into typed input ([`trace::event`]); the
//! [`tracker`], which is pure, aggregates it into statistics per port.
//! See `docs/architecture.md`.

// Only `output` writes to stdout. Messages go through `message`, which escapes control characters.
#![warn(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod analysis;
pub mod app;
pub mod cli;
pub(crate) mod command;
pub mod findings;
pub mod host;
#[cfg(feature = "live")]
pub mod kernel;
pub mod message;
pub mod metrics;
pub mod output;
pub mod record;
pub(crate) mod run;
pub(crate) mod screen;
pub mod source;
pub mod tcp;
pub mod trace;
pub mod tracker;
