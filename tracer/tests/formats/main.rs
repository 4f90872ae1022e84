//! Formats: what is read and written holds to the letter. Records and recordings, the metrics, the
//! schemas and every page that is generated; and the fuzz targets, over their seeds and all that
//! they ever found.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    reason = "a test with a wrong number or without a value fails, as it should"
)]

mod bytes;
mod docs;
mod fuzz;
mod metrics;
mod otlp;
