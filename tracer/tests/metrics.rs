//! Metrics: what is in them, and how many there are at most.

#[allow(dead_code, reason = "other tests need more of it")]
mod tape;
#[allow(dead_code, reason = "other tests need more of it")]
mod wire;

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{KeyValue, any_value::Value as Attribute},
    metrics::v1::{metric::Data, number_data_point},
    resource::v1::Resource,
};
use prost::Message;
use synfin::{
    decode::decode,
    input::Session,
    recording::Frame,
    sink::metrics::{DEFAULT_SERIES, Form, METRICS, Metrics, Value, request, write},
    tracker::{Limits, Tracker},
};
use synfin_common::{event::Flags, state::TcpState::*};

use tape::{Sock, Tape, story};

/// A trace so far, and its metrics.
struct Watched {
    tracker: Tracker,
    metrics: Metrics,
}

impl Watched {
    fn new(series: usize, frames: &[Frame]) -> Self {
        let mut metrics = Metrics::new(series);
        let session = frames.iter().find_map(|frame| match frame {
            Frame::Session(session) => Some(session.as_ref().clone()),
            _ => None,
        });
        metrics.begin(&session.unwrap_or_else(Session::default));
        let mut watched = Self { tracker: Tracker::new(Limits::default(), Tape::BEGIN), metrics };
        watched.take(frames);
        watched
    }

    fn take(&mut self, frames: &[Frame]) {
        for frame in frames {
            decode(frame, |input| self.tracker.ingest(&input, &mut ()));
        }
        self.metrics.take(&self.tracker.cut());
    }

    /// The samples, each under its whole name.
    fn samples(&self) -> Vec<(String, f64)> {
        let page = write(&self.metrics, Form::Prometheus);
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            (name.to_owned(), value.parse().expect("a number"))
        });
        samples.collect()
    }

    fn sample(&self, wanted: &str) -> Option<f64> {
        self.samples().into_iter().find_map(|(name, value)| (name == wanted).then_some(value))
    }
}

/// Connections to so many servers' ports from the first on, established and closed.
fn served(first: u16, ports: u16) -> Vec<Frame> {
    let mut tape = Tape::begin();
    for port in first..first + ports {
        let child = Sock::new(port.into(), &format!("192.0.2.10:{port}"), "198.51.100.7:40001");
        tape.at(10).birth(child, (Listen, SynRecv), None);
        tape.established(child, SynRecv, 300, 0, Flags(0));
        tape.step(child, (Established, CloseWait));
        tape.step(child, (CloseWait, LastAck));
        tape.end(child, LastAck, |end| end.flags = Flags::FIN_RECEIVED);
    }
    tape.tick_at(20);
    tape.frames
}

#[test]
fn the_story_is_told_in_samples() {
    let watched = Watched::new(DEFAULT_SERIES, &story());
    let own = |name: &str, labels: &str| watched.sample(&format!("synfin_{name}{{{labels}}}"));
    let api = "role=\"server\",port=\"8080\"";
    assert_eq!(own("connections_established_total", api), Some(2.0));
    let reset = format!("{api},reason=\"reset_by_peer\",class=\"abnormal\"");
    assert_eq!(own("connections_closed_total", &reset), Some(1.0));
    // A clean handshake of 1,234 µs, and one of more than a second.
    for (class, bound, count) in [
        ("clean", "0.001", 0.0),
        ("clean", "0.0025", 1.0),
        ("clean", "+Inf", 1.0),
        ("retransmitted", "1", 0.0),
        ("retransmitted", "3", 1.0),
    ] {
        let labels = format!("{api},class=\"{class}\",le=\"{bound}\"");
        assert_eq!(own("handshake_duration_seconds_bucket", &labels), Some(count), "{labels}");
    }
    let clean = format!("{api},class=\"clean\"");
    assert_eq!(own("handshake_duration_seconds_sum", &clean), Some(0.001234));
    assert_eq!(own("events_total", "outcome=\"delivered\""), Some(29.0));
    assert_eq!(watched.sample("synfin_tracked_connections"), Some(2.0));
    // Nobody has a name of its own choosing in there.
    assert!(watched.samples().iter().all(|(name, _)| name.is_ascii() && !name.contains("root")));
}

#[test]
fn however_many_ports_there_are_the_page_stays_within_its_bound() {
    let mut watched = Watched::new(DEFAULT_SERIES, &served(1_000, 5));
    watched.take(&served(10_000, 10_000));
    watched.take(&story());
    let samples = watched.samples();
    assert!(samples.len() <= DEFAULT_SERIES, "{} series", samples.len());
    // None that was there is gone, and all is counted somewhere.
    let is_there =
        |port: u16| samples.iter().any(|(name, _)| name.contains(&format!("\"{port}\"")));
    assert!((1_000..1_005).all(is_there));
    let established = samples.iter().filter(|(name, _)| {
        name.starts_with("synfin_connections_established_total{role=\"server\"")
    });
    let established: f64 = established.map(|(_, value)| value).sum();
    assert_eq!(established, 10_007.0);
}

#[test]
fn with_less_room_there_are_fewer_ports() {
    for series in [Metrics::LEAST_SERIES, 600, 5_000] {
        let watched = Watched::new(series, &served(1_000, 500));
        let samples = watched.samples().len();
        assert!(samples <= series, "{samples} of {series}");
    }
    let least = Watched::new(Metrics::LEAST_SERIES, &served(1_000, 500));
    let ports: std::collections::BTreeSet<_> = least
        .samples()
        .iter()
        .filter_map(|(name, _)| Some(name.split_once("port=\"")?.1.split_once('"')?.0.to_owned()))
        .collect();
    assert_eq!(ports.len(), 2, "{ports:?}");
    assert!(ports.contains("other"), "{ports:?}");
}

#[test]
fn both_forms_say_the_same() {
    let watched = Watched::new(DEFAULT_SERIES, &story());
    let samples = |form| {
        let page = write(&watched.metrics, form);
        page.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(samples(Form::Prometheus), samples(Form::OpenMetrics));
    let open = write(&watched.metrics, Form::OpenMetrics);
    assert!(
        open.contains("# TYPE synfin_connections_closed counter\n") && open.ends_with("# EOF\n")
    );
    assert_eq!(Form::accepted("application/openmetrics-text;version=1.0.0"), Form::OpenMetrics);
    assert_eq!(Form::accepted("text/plain"), Form::Prometheus);
}

const ECONNREFUSED: u8 = 111;

/// An interval in which connections to these ports are refused.
fn refused(ports: impl IntoIterator<Item = u16>) -> Vec<Frame> {
    let mut tape = Tape::begin();
    for port in ports {
        let client = Sock::new(port.into(), "192.0.2.10:40001", &format!("198.51.100.7:{port}"));
        tape.at(10).birth(client, (Close, SynSent), None);
        tape.at(12).reset(client);
        tape.end(client, SynSent, |end| end.err = ECONNREFUSED);
    }
    tape.tick_at(20);
    tape.frames
}

#[test]
fn a_service_that_is_down_has_series_of_its_own_and_a_scan_has_none() {
    let mut watched = Watched::new(DEFAULT_SERIES, &refused([5432]));
    let failures = |watched: &Watched, port: &str| {
        let labels = format!("role=\"client\",port=\"{port}\",reason=\"connect_refused_rst\"");
        let name = format!("synfin_connection_failures_total{{{labels},class=\"abnormal\"}}");
        watched.sample(&name)
    };
    watched.take(&refused([5432]));
    assert_eq!((failures(&watched, "5432"), failures(&watched, "other")), (None, Some(2.0)));
    watched.take(&refused([5432]));
    assert_eq!((failures(&watched, "5432"), failures(&watched, "other")), (Some(1.0), Some(2.0)));
    watched.take(&refused((10_000..20_000).chain([5432])));
    assert_eq!(failures(&watched, "5432"), Some(2.0));
    assert_eq!(failures(&watched, "other"), Some(10_002.0));
    assert_eq!(failures(&watched, "10000"), None);
}

/// Attributes as `name=value`, in order.
fn attributes(attributes: &[KeyValue]) -> BTreeSet<String> {
    let attributes = attributes.iter().map(|KeyValue { key, value, .. }| {
        let value = value.as_ref().and_then(|value| value.value.as_ref()).expect("a value");
        match value {
            Attribute::StringValue(text) => format!("{key}={text}"),
            Attribute::IntValue(number) => format!("{key}={number}"),
            Attribute::BoolValue(is) => format!("{key}={is}"),
            _ => panic!("{key} is of no kind that is used: {value:?}"),
        }
    });
    attributes.collect()
}

/// What is pushed: the resource, and each metric's name, unit, and points with their attributes.
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
fn what_is_pushed_is_what_can_be_fetched() {
    let metrics = Watched::new(DEFAULT_SERIES, &story()).metrics;
    let (_, pushed) = pushed(&metrics, &[]);
    // The same samples with the same values in the same order, but for what describes the host.
    let fetched = METRICS.iter().filter(|metric| metric.name != "synfin_info");
    let fetched = fetched.map(|metric| metric.samples(&metrics));
    let fetched: Vec<_> = fetched.filter(|samples| !samples.is_empty()).collect();
    assert_eq!(fetched.len(), pushed.len());
    for (samples, pushed) in fetched.iter().zip(&pushed) {
        let values: Vec<_> = samples
            .iter()
            .map(|sample| match &sample.value {
                Value::Count(count) => *count as f64,
                Value::Number(number) => *number,
                Value::Durations(durations) => *durations.up_to.last().expect("all") as f64,
            })
            .collect();
        let points: Vec<_> = pushed.points.iter().map(|(_, value)| *value).collect();
        assert_eq!(points, values, "{}", pushed.name);
        let different: BTreeSet<_> = pushed.points.iter().map(|(labels, _)| labels).collect();
        assert_eq!(different.len(), points.len(), "{}: labels do not tell apart", pushed.name);
    }
    let names: BTreeSet<_> = pushed.iter().map(|metric| &metric.name).collect();
    assert_eq!(names.len(), pushed.len(), "each has a name of its own");
}

#[test]
fn what_opentelemetry_has_names_for_has_those() {
    let metrics = Watched::new(DEFAULT_SERIES, &story()).metrics;
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
    has(open, &[&server[..], &["network.connection.state=fin_wait_1"]].concat());
    // A collector makes the names of the scrape of these again, for Prometheus.
    let established = metric("synfin.connections_established");
    assert!(matches!(&established.data, Data::Sum(sum) if sum.is_monotonic));
    assert_eq!(metric("synfin.sent").unit, "By");
    assert_eq!(metric("synfin.survey_age").unit, "s");
    // Only what went wrong is an error.
    for (labels, _) in &metric("synfin.connections_closed").points {
        let is_error = labels.iter().any(|label| label.starts_with("error.type="));
        assert_eq!(is_error, labels.contains("synfin.class=abnormal"), "{labels:?}");
    }
}

#[test]
fn whose_metrics_they_are_the_environment_may_say() {
    let metrics = Watched::new(DEFAULT_SERIES, &story()).metrics;
    let said = |of: &[(&str, &str)]| {
        let of: Vec<_> = of.iter().map(|&(key, value)| (key.into(), value.into())).collect();
        attributes(&pushed(&metrics, &of).0.attributes)
    };
    let own = said(&[]);
    for label in ["service.name=synfin", "host.name=web-1", "os.type=linux"] {
        assert!(own.contains(label), "no {label}: {own:?}");
    }
    let theirs = said(&[("host.name", "db-7"), ("deployment.environment.name", "prod")]);
    assert!(theirs.contains("host.name=db-7") && !theirs.contains("host.name=web-1"));
    assert!(theirs.contains("deployment.environment.name=prod"), "{theirs:?}");
    assert_eq!(theirs.len(), own.len() + 1);
}
