//! The metrics' samples, and the limit on their series.

use std::sync::Arc;

use synfin::{
    metrics::{DEFAULT_SERIES, Form, Kind, METRICS, Metrics, write},
    trace::{decode::decode, recording::Frame, session::Session},
    tracker::{Limits, Tracker},
};
use synfin_common::{event::Flags, state::TcpState::*};
use synfin_testkit::{RecordedKernel, Socket, sample::web_server};

/// A tracker with the metrics of its trace.
pub(crate) struct TracedMetrics {
    tracker: Tracker,
    pub(crate) metrics: Metrics,
}

impl TracedMetrics {
    pub(crate) fn new(series: usize, frames: &[Frame]) -> Self {
        let mut metrics = Metrics::new(series);
        let session = frames.iter().find_map(|frame| match frame {
            Frame::Session(session) => Some(session.as_ref().clone()),
            _ => None,
        });
        metrics.begin(&Arc::new(session.unwrap_or_else(Session::default)));
        let mut traced =
            Self { tracker: Tracker::new(Limits::default(), RecordedKernel::BEGIN), metrics };
        traced.take(frames);
        traced
    }

    fn take(&mut self, frames: &[Frame]) {
        for frame in frames {
            decode(frame, |input| self.tracker.apply(&input));
        }
        self.metrics.take(&self.tracker.take_snapshot());
    }

    /// The samples, each with its full name.
    fn samples(&self) -> Vec<(String, f64)> {
        let page = text(&self.metrics, Form::Prometheus);
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

fn text(metrics: &Metrics, form: Form) -> String {
    String::from_utf8(write(metrics, form)).expect("text")
}

/// Connections to servers on this number of ports, established and closed.
fn served(first: u16, ports: u16) -> Vec<Frame> {
    let mut kernel = RecordedKernel::begin();
    for port in first..first + ports {
        let child =
            Socket::between(port.into(), &format!("192.0.2.10:{port}"), "198.51.100.7:40001");
        kernel.at(10).opens(child, (Listen, SynRecv), None);
        kernel.establishes(child, SynRecv, 300, 0, Flags(0));
        kernel.moves(child, (Established, CloseWait));
        kernel.moves(child, (CloseWait, LastAck));
        kernel.closes_with(child, LastAck, |end| end.flags = Flags::FIN_RECEIVED);
    }
    kernel.tick_at(20);
    kernel.into_frames()
}

#[test]
fn samples_match_the_recording() {
    let traced = TracedMetrics::new(DEFAULT_SERIES, &web_server());
    let own = |name: &str, labels: &str| traced.sample(&format!("synfin_{name}{{{labels}}}"));
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
    assert_eq!(own("handshake_duration_seconds_sum", &clean), Some(0.001_234));
    assert_eq!(own("events_total", "outcome=\"delivered\""), Some(29.0));
    assert_eq!(traced.sample("synfin_tracked_connections"), Some(2.0));
    // No label has a name that a process or peer can choose, except for one series of each port.
    let info = format!("synfin_port_info{{{api},owner=\"api\"}}");
    assert_eq!(traced.sample(&info), Some(1.0), "{:?}", traced.samples());
    let others: Vec<_> = traced
        .samples()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("synfin_port_info"))
        .collect();
    assert!(others.iter().all(|(name, _)| name.is_ascii() && !name.contains("api")), "{others:?}");
}

#[test]
fn the_default_has_room_for_100_service_ports_in_both_roles() {
    let mut traced = TracedMetrics::new(DEFAULT_SERIES, &served(1_000, 100));
    (0..3).for_each(|_| traced.take(&refused(1_000..1_100)));
    let rows = |role: &str| {
        let own = format!("synfin_connections_established_total{{role=\"{role}\"");
        traced.samples().iter().filter(|(name, _)| name.starts_with(&own)).count()
    };
    // And the rest of each role.
    assert_eq!((rows("server"), rows("client")), (101, 101));
    let of_a_server = traced
        .samples()
        .iter()
        .filter(|(name, _)| name.contains("\"1000\"") && name.contains("server"))
        .count();
    assert!(of_a_server <= 64, "{of_a_server} series");
    assert!(traced.samples().len() <= DEFAULT_SERIES);
}

#[test]
fn findings_are_metrics() {
    let traced = TracedMetrics::new(DEFAULT_SERIES, &refused([5432; 3]));
    let found: Vec<_> = traced
        .samples()
        .into_iter()
        .filter(|(name, _)| name.starts_with("synfin_findings"))
        .collect();
    let refused = "synfin_findings{finding=\"connect_refused\",severity=\"critical\",role=\"client\",port=\"other\"}";
    assert_eq!(found, [(refused.to_owned(), 1.0)]);
}

#[test]
fn series_stay_below_the_limit_under_a_port_scan() {
    let mut traced = TracedMetrics::new(DEFAULT_SERIES, &served(1_000, 5));
    traced.take(&served(10_000, 10_000));
    traced.take(&web_server());
    let samples = traced.samples();
    assert!(samples.len() <= DEFAULT_SERIES, "{} series", samples.len());
    // No earlier series has gone, and every connection is counted in some series.
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
fn a_lower_series_limit_leaves_fewer_ports() {
    for series in [Metrics::LEAST_SERIES, 600, 5_000] {
        let traced = TracedMetrics::new(series, &served(1_000, 500));
        let samples = traced.samples().len();
        assert!(samples <= series, "{samples} of {series}");
    }
    let least = TracedMetrics::new(Metrics::LEAST_SERIES, &served(1_000, 500));
    let ports: std::collections::BTreeSet<_> = least
        .samples()
        .iter()
        .filter_map(|(name, _)| Some(name.split_once("port=\"")?.1.split_once('"')?.0.to_owned()))
        .collect();
    assert_eq!(ports.len(), 2, "{ports:?}");
    assert!(ports.contains("other"), "{ports:?}");
}

#[test]
fn prometheus_and_openmetrics_have_the_same_samples() {
    let traced = TracedMetrics::new(DEFAULT_SERIES, &web_server());
    let samples = |form| {
        let page = text(&traced.metrics, form);
        page.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(samples(Form::Prometheus), samples(Form::OpenMetrics));
    let open = text(&traced.metrics, Form::OpenMetrics);
    assert!(
        open.contains("# TYPE synfin_connections_closed counter\n") && open.ends_with("# EOF\n")
    );
}

#[test]
fn the_client_chooses_the_format() {
    const PROTO: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    // As Prometheus 2 and 3 ask, with and without native histograms.
    let text = "application/openmetrics-text;version=1.0.0;q=0.75,\
                application/openmetrics-text;version=0.0.1;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    for (accept, form) in [
        (text.to_owned(), Form::OpenMetrics),
        (format!("{PROTO};q=0.9,{text}"), Form::Protobuf),
        (format!("{PROTO},{text}"), Form::Protobuf),
        (format!("{text},{PROTO};q=0.4"), Form::OpenMetrics),
        ("application/vnd.google.protobuf;encoding=text".into(), Form::Prometheus),
        ("application/openmetrics-text; version=1.0.0".into(), Form::OpenMetrics),
        ("text/plain;q=0.9, application/openmetrics-text;q=0".into(), Form::Prometheus),
        ("text/html, */*".into(), Form::Prometheus),
        (String::new(), Form::Prometheus),
    ] {
        assert_eq!(Form::accepted(&accept), form, "{accept}");
    }
}

const ECONNREFUSED: u8 = 111;

/// An interval in which connections to these ports are refused.
fn refused(ports: impl IntoIterator<Item = u16>) -> Vec<Frame> {
    let mut kernel = RecordedKernel::begin();
    for port in ports {
        let client =
            Socket::between(port.into(), "192.0.2.10:40001", &format!("198.51.100.7:{port}"));
        kernel.at(10).opens(client, (Close, SynSent), None);
        kernel.at(12).receives_reset(client);
        kernel.closes_with(client, SynSent, |end| end.err = ECONNREFUSED);
    }
    kernel.tick_at(20);
    kernel.into_frames()
}

#[test]
fn a_refused_service_gets_its_own_series_and_a_port_scan_does_not() {
    let mut traced = TracedMetrics::new(DEFAULT_SERIES, &refused([5432]));
    let failures = |traced: &TracedMetrics, port: &str| {
        let labels = format!("role=\"client\",port=\"{port}\",reason=\"connect_refused_rst\"");
        let name = format!("synfin_connection_failures_total{{{labels},class=\"abnormal\"}}");
        traced.sample(&name)
    };
    traced.take(&refused([5432]));
    assert_eq!((failures(&traced, "5432"), failures(&traced, "other")), (None, Some(2.0)));
    traced.take(&refused([5432]));
    assert_eq!((failures(&traced, "5432"), failures(&traced, "other")), (Some(1.0), Some(2.0)));
    traced.take(&refused((10_000..20_000).chain([5432])));
    assert_eq!(failures(&traced, "5432"), Some(2.0));
    assert_eq!(failures(&traced, "other"), Some(10_002.0));
    assert_eq!(failures(&traced, "10000"), None);
}

#[test]
fn counters_start_at_0() {
    let traced = TracedMetrics::new(DEFAULT_SERIES, &served(80, 1));
    let of = |metric: &str, role: &str, port: &str, labels: &str| {
        traced.sample(&format!("{metric}{{role=\"{role}\",port=\"{port}\"{labels}}}"))
    };
    let reset = ",reason=\"reset_by_peer\",class=\"abnormal\"";
    assert_eq!(of("synfin_connections_closed_total", "server", "80", reset), Some(0.0));
    let refused = ",reason=\"connect_refused_rst\",class=\"abnormal\"";
    assert_eq!(of("synfin_connection_failures_total", "client", "other", refused), Some(0.0));
}

/// Alerts lead to the page that says what to do.
#[test]
fn every_alert_has_a_runbook_that_exists() {
    let root = format!("{}/..", env!("CARGO_MANIFEST_DIR"));
    let alerts =
        std::fs::read_to_string(format!("{root}/docs/prometheus/alerts.yml")).expect("alerts");
    let links: Vec<_> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: ")).collect();
    assert_eq!(links.len(), alerts.matches("- alert: ").count());
    for link in links {
        let (page, anchor) = link.trim_matches('"').split_once('#').expect("a heading");
        let text = std::fs::read_to_string(format!("{root}/{page}"))
            .unwrap_or_else(|error| panic!("{page}: {error}"));
        // A label of the alert stands for any heading.
        let heading = |line: &str| {
            line.strip_prefix("## ").map(|title| title.to_lowercase().replace(' ', "-"))
        };
        let is_there =
            anchor.contains("{{") || text.lines().filter_map(heading).any(|it| it == anchor);
        assert!(is_there, "{link} leads nowhere");
    }
}

/// The names in dashboards, alerts and pages.
#[test]
fn every_metric_named_in_docs_exists() {
    const FILES: [&str; 5] = [
        "docs/guide.md",
        "docs/metrics.md",
        "docs/grafana/synfin.json",
        "docs/prometheus/alerts.yml",
        "docs/prometheus/alerts_test.yml",
    ];
    let mut unknown = Vec::new();
    for file in FILES {
        let path = format!("{}/../{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).expect("the page");
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let named: Vec<_> = words.filter(|word| word.starts_with("synfin_")).collect();
        assert!(!named.is_empty(), "{file} names no metric");
        unknown.extend(
            named.into_iter().filter(|name| !is_served(name)).map(|it| (file, it.to_owned())),
        );
    }
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// Whether a metric or its samples have this name.
fn is_served(name: &str) -> bool {
    METRICS.iter().any(|metric| {
        let suffixes = ["_bucket", "_sum", "_count"].iter();
        let is_part =
            || suffixes.clone().any(|suffix| name.strip_suffix(suffix) == Some(metric.name));
        name == metric.name || metric.kind == Kind::Histogram && is_part()
    })
}
