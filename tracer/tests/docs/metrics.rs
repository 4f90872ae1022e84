//! All metrics.

use synfin::sink::metrics::{Kind, METRICS};

use super::markdown;

/// A table of them.
pub(crate) fn table() -> String {
    let rows = METRICS.iter().map(|metric| {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        vec![markdown::code(metric.name), kind.to_owned(), metric.help.to_owned()]
    });
    markdown::table(&["metric", "kind", "what it tells"], rows)
}
