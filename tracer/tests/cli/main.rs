//! The program as it is called: what it prints, what it says when something is wrong, how it exits,
//! and what its screen shows. All of it reads recordings, most of them made by a [fake
//! kernel](synfin_testkit), so that neither root nor traffic is needed.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    reason = "a test with a wrong number or without a value fails, as it should"
)]

mod anonymize;
mod fail_on;
mod files;
mod flight_recorder;
mod golden;
mod help;
mod output;
mod samples;
mod screen;
