//! synfin follows every TCP connection of a Linux host from SYN to FIN.
//!
//! One way, no back edges: [`kernel`] gives bytes, framed as a [`recording`] holds them;
//! [`decode`] makes typed [`input`] of them; the tracker, which is pure, keeps the books.
//! See `docs/architecture.md`.

// Standard output belongs to what the user asked for, which `sink` writes; all else is said through
// `message`, which escapes control characters.
#![warn(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod anonymize;
pub mod app;
pub mod cli;
pub mod clock;
mod command;
pub mod compare;
pub mod decode;
mod destination;
pub mod diagnose;
pub mod enrich;
pub mod exit;
mod explain;
mod fail_on;
pub mod failure;
pub mod figure;
pub mod filter;
pub mod flight;
pub mod harmless;
pub mod input;
pub mod kernel;
mod message;
mod mounts;
mod paragraph;
pub mod recording;
mod ring_size;
mod screen;
mod serve;
mod services;
pub mod sight;
pub mod sink;
pub mod source;
pub mod states;
pub mod tracker;
