//! Metrics are served and pushed by a thread of their own, so that slow clients and collectors do not
//! delay the trace.

pub(crate) mod endpoint;
pub(crate) mod exporter;
pub(crate) mod latest;
pub(crate) mod otlp_push;

pub(crate) use exporter::Exporter;
pub(crate) use otlp_push::{Collector, url};
