//! Formats: what is read and written holds to the letter. Records and recordings, the metrics, the
//! schemas and every page that is generated; and the fuzz targets, over their seeds and all that
//! they ever found.

mod bytes;
mod docs;
mod fuzz;
mod metrics;
mod otlp;
