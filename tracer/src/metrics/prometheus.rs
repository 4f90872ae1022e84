//! The text formats of Prometheus and OpenMetrics.

use std::fmt::{self, Display, Write};

use super::{Durations, METRICS, Metric, Metrics, Sample, Value};

/// The text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Prometheus, version 0.0.4.
    Prometheus,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Form {
    /// The format for a client that sends this `Accept` header.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics that have samples, as text.
pub fn write(metrics: &Metrics, form: Form) -> String {
    let mut page = String::new();
    for metric in METRICS {
        let samples = metric.samples(metrics);
        if !samples.is_empty() {
            // Writing to a string does not fail.
            let _ = one(&mut page, metric, &samples, form);
        }
    }
    if form == Form::OpenMetrics {
        page.push_str("# EOF\n");
    }
    page
}

fn one(page: &mut String, metric: &Metric, samples: &[Sample], form: Form) -> fmt::Result {
    let Metric { name, help, kind, .. } = metric;
    // In OpenMetrics the name of a counter lacks the suffix of its samples.
    let family = match form {
        Form::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
        Form::Prometheus => name,
    };
    writeln!(page, "# HELP {family} {}\n# TYPE {family} {}", escaped(help), kind.name())?;
    for Sample { labels, value } in samples {
        match value {
            Value::Count(count) => line(page, name, "", labels, None, count)?,
            Value::Number(number) => line(page, name, "", labels, None, number)?,
            Value::Durations(took) => {
                let bounds = Durations::bounds().map(|bound| bound.to_string());
                let bounds = bounds.iter().map(String::as_str).chain(["+Inf"]);
                for (bound, count) in bounds.zip(took.up_to) {
                    line(page, name, "_bucket", labels, Some(bound), count)?;
                }
                line(page, name, "_sum", labels, None, took.seconds())?;
                line(page, name, "_count", labels, None, took.count())?;
            }
        }
    }
    Ok(())
}

fn line(
    page: &mut String,
    name: &str,
    suffix: &str,
    labels: &[(&'static str, String)],
    bound: Option<&str>,
    value: impl Display,
) -> fmt::Result {
    let labels = labels.iter().map(|(name, value)| (*name, value.as_str()));
    let labels: Vec<_> = labels
        .chain(bound.map(|bound| ("le", bound)))
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value).replace('"', "\\\"")))
        .collect();
    match labels.as_slice() {
        [] => writeln!(page, "{name}{suffix} {value}"),
        labels => writeln!(page, "{name}{suffix}{{{}}} {value}", labels.join(",")),
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}
