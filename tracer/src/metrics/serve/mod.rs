//! Metrics leave synfin on a thread of their own: whoever fetches them, or is pushed them, however
//! slowly, keeps no record waiting.

pub(crate) mod endpoint;
pub(crate) mod exporter;
pub(crate) mod latest;
pub(crate) mod otlp_push;

pub(crate) use exporter::Exporter;
pub(crate) use otlp_push::{Collector, url};
