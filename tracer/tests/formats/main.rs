//! Formats that synfin reads and writes: records, recordings, metrics, schemas and generated pages.
//! Also runs the fuzz targets on their seeds and past findings.

mod bytes;
mod docs;
mod fuzz;
mod metrics;
mod otlp;
