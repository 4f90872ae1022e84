//! Generates the table of all metrics.

use synfin::metrics::METRICS;

use super::markdown;

/// The table.
pub(crate) fn table() -> String {
    let rows = METRICS.iter().map(|metric| {
        let theirs = match metric.in_opentelemetry() {
            None => "of the resource".to_owned(),
            Some((name, "")) => markdown::code(&name),
            Some((name, unit)) => format!("{}, {}", markdown::code(&name), markdown::code(unit)),
        };
        let kind = metric.kind.name().to_owned();
        vec![markdown::code(metric.name), kind, metric.help.to_owned(), theirs]
    });
    markdown::table(&["metric", "kind", "meaning", "in OpenTelemetry"], rows)
}
