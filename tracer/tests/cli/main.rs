//! The command line: output, messages, exit status and the screen. All tests read recordings, most of
//! them made by a [fake kernel](synfin_testkit), and need neither root nor traffic.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    reason = "a test with a wrong number or without a value fails, as it should"
)]

mod anonymize;
mod compare;
mod diagnose;
mod exit_status;
mod fail_on;
mod files;
mod flight_recorder;
mod golden;
mod help;
mod outages;
mod output;
mod samples;
mod screen;
