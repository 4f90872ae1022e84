//! The formats of Prometheus and OpenMetrics.

use std::fmt::{self, Display, Write};

use super::{METRICS, Metric, Metrics, Sample, Value, protobuf};

/// The format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The text of Prometheus, version 0.0.4.
    Prometheus,
    /// The text of OpenMetrics, version 1.0.0.
    OpenMetrics,
    /// The protocol buffers of Prometheus, the only format with native histograms.
    Protobuf,
}

impl Form {
    /// The format that a client with this `Accept` header prefers.
    pub fn accepted(accept: &str) -> Self {
        let mut best = (0.0, Self::Prometheus);
        for range in accept.split(',') {
            let (media_type, parameters) = range.split_once(';').unwrap_or((range, ""));
            let parameters: Vec<_> = parameters.split(';').map(str::trim).collect();
            let form = match media_type.trim() {
                "application/openmetrics-text" => Self::OpenMetrics,
                "application/vnd.google.protobuf" if parameters.contains(&"encoding=delimited") => {
                    Self::Protobuf
                }
                "text/plain" | "text/*" | "*/*" => Self::Prometheus,
                _ => continue,
            };
            let quality = parameters.iter().find_map(|parameter| parameter.strip_prefix("q="));
            let quality = quality.map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
            if quality > best.0 {
                best = (quality, form);
            }
        }
        best.1
    }

    /// The media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// All metrics that have samples.
pub fn write(metrics: &Metrics, form: Form) -> Vec<u8> {
    let all = METRICS.iter().map(|metric| (metric, metric.samples(metrics)));
    let all = all.filter(|(_, samples)| !samples.is_empty());
    if form == Form::Protobuf {
        return protobuf::write(all, metrics.session.clock);
    }
    let mut page = String::new();
    for (metric, samples) in all {
        // Writing to a string does not fail.
        let _ = one(&mut page, metric, &samples, form);
    }
    if form == Form::OpenMetrics {
        page.push_str("# EOF\n");
    }
    page.into_bytes()
}

fn one(page: &mut String, metric: &Metric, samples: &[Sample], form: Form) -> fmt::Result {
    let Metric { name, help, kind, .. } = metric;
    // In OpenMetrics the name of a counter lacks the suffix of its samples.
    let family = match form {
        Form::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
        Form::Prometheus | Form::Protobuf => name,
    };
    writeln!(page, "# HELP {family} {}\n# TYPE {family} {}", escaped(help), kind.name())?;
    for Sample { labels, value } in samples {
        match value {
            Value::Count(count) => line(page, name, "", labels, None, count)?,
            Value::Number(number) => line(page, name, "", labels, None, number)?,
            Value::Durations(took) => {
                let bounds = took.bounds().map(|bound| bound.to_string());
                for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(&took.up_to) {
                    line(page, name, "_bucket", labels, Some(&bound), count)?;
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
