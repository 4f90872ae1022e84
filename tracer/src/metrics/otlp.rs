//! OTLP, the protocol of OpenTelemetry: one request with all metrics.
//!
//! Metrics for which OpenTelemetry has a name use it: published (<https://opentelemetry.io/docs/specs/semconv/system/>,
//! all in development), or proposed, as that of handshakes
//! (<https://github.com/open-telemetry/semantic-conventions/issues/3682>). The others are called `synfin.` and the rest of the name without the suffixes of units and counters. A
//! collector adds these again for Prometheus, so that names are the same as in a scrape.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric as OtlpMetric,
        NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};
use prost::Message;
use synfin_common::state::TcpState;

use super::{Kind, METRICS, Metric, Metrics, OTHER, Sample, Value};
use crate::{
    tcp::close_reason::Class,
    trace::{session::Session, time::Nanos},
};

/// A metric with a name in OpenTelemetry.
struct Named {
    ours: &'static str,
    theirs: &'static str,
    unit: &'static str,
    /// Whether it is an up-down counter: a gauge that can be added.
    is_up_down: bool,
}

macro_rules! named {
    ($($ours:literal $theirs:literal $unit:literal $is_up_down:literal;)*) => {
        [$(Named { ours: $ours, theirs: $theirs, unit: $unit, is_up_down: $is_up_down },)*]
    };
}

const NAMED: [Named; 6] = named! {
    "synfin_handshake_duration_seconds" "system.network.tcp.handshake.duration" "s" false;
    "synfin_connections" "system.network.connection.count" "{connection}" true;
    "process_cpu_seconds_total" "process.cpu.time" "s" false;
    "process_resident_memory_bytes" "process.memory.usage" "By" true;
    "process_virtual_memory_bytes" "process.memory.virtual" "By" true;
    "process_open_fds" "process.unix.file_descriptor.count" "{file_descriptor}" true;
};

/// Metrics of properties that the resource has in OpenTelemetry, or nothing has.
const NOT_PUSHED: [&str; 3] = ["synfin_info", "process_max_fds", "process_start_time_seconds"];

/// All metrics that have samples. The attributes take precedence over those that synfin knows of the
/// resource.
pub fn request(metrics: &Metrics, attributes: &[(String, String)]) -> Vec<u8> {
    let clock = metrics.session.clock;
    let points = Points { start: clock.realtime_ns, now: clock.since_1970(metrics.end) };
    let written = METRICS.iter().filter_map(|metric| {
        let samples = metric.samples(metrics);
        if samples.is_empty() { None } else { one(&points, metric, &samples) }
    });
    let scope = InstrumentationScope {
        name: "synfin".into(),
        version: metrics.session.synfin.clone(),
        ..InstrumentationScope::default()
    };
    let scope_metrics =
        ScopeMetrics { scope: Some(scope), metrics: written.collect(), ..ScopeMetrics::default() };
    let resource_metrics = ResourceMetrics {
        resource: Some(resource(&metrics.session, attributes)),
        scope_metrics: vec![scope_metrics],
        ..ResourceMetrics::default()
    };
    ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] }.encode_to_vec()
}

/// The attributes of the resource. The instance is the host, which stays the same after a restart.
fn resource(session: &Session, attributes: &[(String, String)]) -> Resource {
    let mut all: Vec<_> =
        attributes.iter().map(|(key, value)| attribute(key, text(value))).collect();
    for (key, value) in [
        ("service.name", "synfin"),
        ("service.version", &session.synfin),
        ("service.instance.id", &session.host),
        ("host.name", &session.host),
        ("os.type", "linux"),
        ("os.version", &session.kernel),
    ] {
        if !all.iter().any(|given| given.key == key) {
            all.push(attribute(key, text(value)));
        }
    }
    Resource { attributes: all, ..Resource::default() }
}

fn one(points: &Points, metric: &Metric, samples: &[Sample]) -> Option<OtlpMetric> {
    let (name, unit) = metric.in_opentelemetry()?;
    let cumulative = AggregationTemporality::Cumulative.into();
    let data = match metric.kind {
        Kind::Histogram => Data::Histogram(Histogram {
            data_points: samples.iter().filter_map(|sample| points.histogram(sample)).collect(),
            aggregation_temporality: cumulative,
        }),
        Kind::Gauge if !metric.named().is_some_and(|named| named.is_up_down) => {
            Data::Gauge(Gauge { data_points: points.numbers(samples) })
        }
        Kind::Counter | Kind::Gauge => Data::Sum(Sum {
            data_points: points.numbers(samples),
            aggregation_temporality: cumulative,
            is_monotonic: metric.kind == Kind::Counter,
        }),
    };
    Some(OtlpMetric {
        name,
        unit: unit.into(),
        description: metric.help.into(),
        data: Some(data),
        ..OtlpMetric::default()
    })
}

impl Metric {
    fn named(&self) -> Option<&'static Named> {
        NAMED.iter().find(|named| named.ours == self.name)
    }

    /// Name and unit in OpenTelemetry; `None` if it is not pushed.
    pub fn in_opentelemetry(&self) -> Option<(String, &'static str)> {
        let name = self.name;
        if NOT_PUSHED.contains(&name) {
            return None;
        }
        if let Some(named) = self.named() {
            return Some((named.theirs.to_owned(), named.unit));
        }
        let rest = name.strip_prefix("synfin_").unwrap_or(name);
        let rest = rest.strip_suffix("_total").unwrap_or(rest);
        let units = [("_seconds", "s"), ("_bytes", "By"), ("_ratio", "1")];
        let with_unit = units.iter().find_map(|(end, unit)| Some((rest.strip_suffix(end)?, *unit)));
        let (rest, unit) = with_unit.unwrap_or((rest, ""));
        Some((format!("synfin.{rest}"), unit))
    }
}

/// Converts samples to data points.
struct Points {
    /// Start of the trace and time of the values, in nanoseconds since 1970.
    start: Nanos,
    now: Nanos,
}

impl Points {
    fn numbers(&self, samples: &[Sample]) -> Vec<NumberDataPoint> {
        samples.iter().filter_map(|sample| self.number(sample)).collect()
    }

    fn number(&self, sample: &Sample) -> Option<NumberDataPoint> {
        let value = match sample.value {
            Value::Count(count) => {
                number_data_point::Value::AsInt(i64::try_from(count).unwrap_or(i64::MAX))
            }
            Value::Number(number) => number_data_point::Value::AsDouble(number),
            Value::Durations(_) => return None,
        };
        Some(NumberDataPoint {
            attributes: attributes(sample),
            start_time_unix_nano: self.start,
            time_unix_nano: self.now,
            value: Some(value),
            ..NumberDataPoint::default()
        })
    }

    fn histogram(&self, sample: &Sample) -> Option<HistogramDataPoint> {
        let Value::Durations(took) = &sample.value else { return None };
        let below = [0].iter().chain(&took.up_to);
        let own = took.up_to.iter().zip(below).map(|(up_to, below)| up_to - below);
        Some(HistogramDataPoint {
            attributes: attributes(sample),
            start_time_unix_nano: self.start,
            time_unix_nano: self.now,
            count: took.count(),
            sum: Some(took.seconds()),
            // OTLP counts each bucket by itself.
            bucket_counts: own.collect(),
            explicit_bounds: took.bounds().collect(),
            ..HistogramDataPoint::default()
        })
    }
}

fn attributes(sample: &Sample) -> Vec<KeyValue> {
    let labels = &sample.labels;
    let is_bad = labels.contains(&("class", Class::Abnormal.name().into()));
    let mut all: Vec<_> = labels.iter().map(|(name, value)| of_label(name, value)).collect();
    if let Some((_, reason)) = labels.iter().find(|(name, _)| *name == "reason" && is_bad) {
        all.push(attribute("error.type", text(reason)));
    }
    if labels.iter().any(|(name, _)| *name == "state") {
        all.push(attribute("network.transport", text("tcp")));
    }
    all
}

fn of_label(label: &str, value: &str) -> KeyValue {
    match label {
        "role" => attribute("network.tcp.handshake.role", text(value)),
        "port" => match value.parse() {
            Ok(port) => attribute("server.port", any_value::Value::IntValue(port)),
            // The attribute that the OpenTelemetry SDK uses for series beyond its limit.
            Err(_) => {
                debug_assert_eq!(value, OTHER);
                attribute("otel.metric.overflow", any_value::Value::BoolValue(true))
            }
        },
        "state" => attribute("network.connection.state", text(state(value))),
        other => attribute(&format!("synfin.{other}"), text(value)),
    }
}

/// OpenTelemetry's name of a state.
fn state(name: &str) -> &str {
    const THEIRS: [(TcpState, &str); 4] = [
        (TcpState::SynRecv, "syn_received"),
        (TcpState::FinWait1, "fin_wait_1"),
        (TcpState::FinWait2, "fin_wait_2"),
        (TcpState::Close, "closed"),
    ];
    THEIRS.iter().find(|(state, _)| state.name() == name).map_or(name, |(_, theirs)| theirs)
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn text(value: &str) -> any_value::Value {
    any_value::Value::StringValue(value.into())
}
