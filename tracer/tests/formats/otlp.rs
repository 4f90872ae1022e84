//! Metrics pushed to OpenTelemetry collectors compared with the scraped ones.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{KeyValue, any_value::Value as Attribute},
    metrics::v1::{metric::Data, number_data_point},
    resource::v1::Resource,
};
use prost::Message;
use synfin::metrics::{DEFAULT_SERIES, METRICS, Metrics, Value, request};
use synfin_testkit::sample::web_server;

use crate::metrics::TracedMetrics;

/// Attributes as `name=value`, in order.
fn attributes(attributes: &[KeyValue]) -> BTreeSet<String> {
    let attributes = attributes.iter().map(|KeyValue { key, value, .. }| {
        let value = value.as_ref().and_then(|value| value.value.as_ref()).expect("a value");
        match value {
            Attribute::StringValue(text) => format!("{key}={text}"),
            Attribute::IntValue(number) => format!("{key}={number}"),
            Attribute::BoolValue(is) => format!("{key}={is}"),
            _ => panic!("{key} has an unexpected type: {value:?}"),
        }
    });
    attributes.collect()
}

/// The pushed resource, and each metric's name, unit, and points with their attributes.
fn pushed(metrics: &Metrics, of: &[(String, String)]) -> (Resource, Vec<Pushed>) {
    let bytes = request(metrics, of);
    let request = ExportMetricsServiceRequest::decode(bytes.as_slice()).expect("a request");
    let [one] = <[_; 1]>::try_from(request.resource_metrics).expect("one resource");
    let [scope] = <[_; 1]>::try_from(one.scope_metrics).expect("one scope");
    let metrics = scope.metrics.into_iter().map(|metric| {
        let data = metric.data.expect("data");
        let points = match &data {
            Data::Gauge(gauge) => &gauge.data_points,
            Data::Sum(sum) => &sum.data_points,
            Data::Histogram(_) => &vec![],
            other => panic!("{other:?}"),
        };
        let mut points: Vec<_> = points
            .iter()
            .map(|point| {
                assert!(point.start_time_unix_nano <= point.time_unix_nano);
                let value = match point.value.expect("a value") {
                    number_data_point::Value::AsInt(number) => number as f64,
                    number_data_point::Value::AsDouble(number) => number,
                };
                (attributes(&point.attributes), value)
            })
            .collect();
        if let Data::Histogram(histogram) = &data {
            points.extend(histogram.data_points.iter().map(|point| {
                assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
                assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
                (attributes(&point.attributes), point.count as f64)
            }));
        }
        Pushed { name: metric.name, unit: metric.unit, data, points }
    });
    (one.resource.expect("a resource"), metrics.collect())
}

struct Pushed {
    name: String,
    unit: String,
    data: Data,
    points: Vec<(BTreeSet<String>, f64)>,
}

#[test]
fn otlp_has_the_same_samples_as_prometheus() {
    let metrics = TracedMetrics::new(DEFAULT_SERIES, &web_server()).metrics;
    let (_, pushed) = pushed(&metrics, &[]);
    // The samples, values and order are the same, except for metrics of the host.
    let fetched = METRICS.iter().filter(|metric| metric.in_opentelemetry().is_some());
    let fetched = fetched.map(|metric| metric.samples(&metrics));
    let fetched: Vec<_> = fetched.filter(|samples| !samples.is_empty()).collect();
    assert_eq!(fetched.len(), pushed.len());
    for (samples, pushed) in fetched.iter().zip(&pushed) {
        let values: Vec<_> = samples
            .iter()
            .map(|sample| match &sample.value {
                Value::Count(count) => *count as f64,
                Value::Number(number) => *number,
                Value::Durations(durations) => durations.count() as f64,
            })
            .collect();
        let points: Vec<_> = pushed.points.iter().map(|(_, value)| *value).collect();
        assert_eq!(points, values, "{}", pushed.name);
        let different: BTreeSet<_> = pushed.points.iter().map(|(labels, _)| labels).collect();
        assert_eq!(different.len(), points.len(), "{}: points with equal labels", pushed.name);
    }
    let names: BTreeSet<_> = pushed.iter().map(|metric| &metric.name).collect();
    assert_eq!(names.len(), pushed.len(), "metrics with equal names");
}

#[test]
fn semantic_convention_names_are_used() {
    let metrics = TracedMetrics::new(DEFAULT_SERIES, &web_server()).metrics;
    let (_, pushed) = pushed(&metrics, &[]);
    let metric = |name: &str| {
        pushed.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("no {name}"))
    };
    let has = |name: &str, wanted: &[&str]| {
        let wanted: BTreeSet<_> = wanted.iter().map(|&label| label.to_owned()).collect();
        let points = &metric(name).points;
        assert!(points.iter().any(|(labels, _)| *labels == wanted), "{name}: {points:#?}");
    };
    let handshakes = "system.network.tcp.handshake.duration";
    assert_eq!(metric(handshakes).unit, "s");
    has(
        handshakes,
        &["network.tcp.handshake.role=server", "server.port=8080", "synfin.class=clean"],
    );
    has(
        handshakes,
        &["network.tcp.handshake.role=client", "otel.metric.overflow=true", "synfin.class=clean"],
    );
    let open = "system.network.connection.count";
    assert_eq!(metric(open).unit, "{connection}");
    assert!(matches!(&metric(open).data, Data::Sum(sum) if !sum.is_monotonic));
    let server = ["network.tcp.handshake.role=server", "server.port=8080"];
    let established = ["network.connection.state=established", "network.transport=tcp"];
    has(open, &[&server[..], &established].concat());
    let memory = metric("process.memory.usage");
    assert!(memory.unit == "By" && matches!(&memory.data, Data::Sum(sum) if !sum.is_monotonic));
    // For Prometheus, a collector derives the names of the scraped metrics from these.
    let established = metric("synfin.connections_established");
    assert!(matches!(&established.data, Data::Sum(sum) if sum.is_monotonic));
    assert_eq!(metric("synfin.sent").unit, "By");
    assert_eq!(metric("synfin.survey_age").unit, "s");
    // Only an abnormal close is an error.
    for (labels, _) in &metric("synfin.connections_closed").points {
        let is_error = labels.iter().any(|label| label.starts_with("error.type="));
        assert_eq!(is_error, labels.contains("synfin.class=abnormal"), "{labels:?}");
    }
}

#[test]
fn resource_attributes_can_be_set() {
    let metrics = TracedMetrics::new(DEFAULT_SERIES, &web_server()).metrics;
    let printed = |of: &[(&str, &str)]| {
        let of: Vec<_> = of.iter().map(|&(key, value)| (key.into(), value.into())).collect();
        attributes(&pushed(&metrics, &of).0.attributes)
    };
    let own = printed(&[]);
    for label in ["service.name=synfin", "host.name=web-1", "os.type=linux"] {
        assert!(own.contains(label), "no {label}: {own:?}");
    }
    let theirs = printed(&[("host.name", "db-7"), ("deployment.environment.name", "prod")]);
    assert!(theirs.contains("host.name=db-7") && !theirs.contains("host.name=web-1"));
    assert!(theirs.contains("deployment.environment.name=prod"), "{theirs:?}");
    assert_eq!(theirs.len(), own.len() + 1);
}
