//! Formats that synfin reads and writes: records, recordings, metrics, schemas and generated pages.
//! Also runs the fuzz targets on their seeds and past findings.

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
