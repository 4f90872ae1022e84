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
        let theirs = match metric.in_opentelemetry() {
            _ if !metric.is_in_opentelemetry() => "of the resource".to_owned(),
            (name, "") => markdown::code(&name),
            (name, unit) => format!("{}, {}", markdown::code(&name), markdown::code(unit)),
        };
        vec![markdown::code(metric.name), kind.to_owned(), metric.help.to_owned(), theirs]
    });
    markdown::table(&["metric", "kind", "what it tells", "in OpenTelemetry"], rows)
}
