//! The metrics of `synfin serve`, scraped by a real Prometheus.

mod alerts;
mod dashboard;
mod fleet;
mod traffic;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use synfin::metrics::{BOUNDS_US, OTHER, RETRANSMITTED_BOUNDS_US};

use crate::{
    lab::{
        self, Host, Link, Loss, Pair, Prometheus, Report, Series, Synfin, eventually_equal,
        unix_now,
    },
    statistics::column_of,
};

/// The first port of this file's tests.
const PORT: u16 = 7501;
/// A server whose clients close with unread data.
const RESETTING: u16 = PORT + 1;
/// A server to which each connection's first SYN is lost.
const LOSSY: u16 = PORT + 2;
/// No listener.
const CLOSED: u16 = PORT + 3;

/// The duration of the load, several scrape intervals.
const LOAD: Duration = Duration::from_secs(4);

/// Samples by role, port and another label.
type Samples = BTreeMap<(String, String, String), f64>;

#[test]
fn scraped_metrics_agree_with_a_report() {
    if lab::lacks_prometheus("prometheus") {
        return;
    }
    let _lab = lab::enter();
    let (report, prometheus, during, _rest) = lab::seen_whole(|| {
        let link = Link::new(Duration::from_millis(10), &[(LOSSY, Loss::Syn)]);
        let [near, far] = link.both();
        let prometheus = Prometheus::watch(&[Host("web-1", &[near, far])], None);
        let ids = format!("{},{}", near.id(), far.id());
        let other = Synfin::watch(["report", "-o", "json", "-N", &ids]);
        let begun = unix_now();
        let open = load(&link);
        let during = (begun, unix_now());
        link.wait_until_quiet();
        let report = other.finish().report();
        let missed = prometheus.value("sum(synfin_events_total{outcome=\"missed\"})");
        (
            report.event("missed") == 0 && missed == Some(0.0),
            (report, prometheus, during, (link, open)),
        )
    });
    report.check_nothing_lost();

    // Several scrapes saw the load, with growing counts.
    let established = "sum(synfin_connections_established_total)";
    let growing = prometheus.query_range(established, during, 1.0);
    let values: BTreeSet<_> = growing[0].points.iter().map(|(_, value)| *value as u64).collect();
    assert!(values.len() >= 3, "too few scrapes during the load: {growing:?}");

    let had = Had { prometheus: &prometheus, report: &report, own: own_ports(&prometheus) };
    had.check_counts();
    had.check_durations();
    had.check_events();
    prometheus.finish();
}

#[test]
fn native_histograms_are_scraped_where_prometheus_asks_for_them() {
    /// The width of a bucket: eight per power of two.
    const WIDTH: f64 = 1.091;
    if lab::lacks_prometheus("prometheus") {
        return;
    }
    let _lab = lab::enter();
    let link = Link::new(Duration::from_millis(10), &[]);
    let [near, far] = link.both();
    let prometheus = Prometheus::watch_native(&[Host("web-1", &[near, far])]);
    let ids = format!("{},{}", near.id(), far.id());
    let other = Synfin::watch(["report", "-o", "json", "-N", &ids]);
    let at = SocketAddr::from((Link::FAR, PORT));
    let listener = link.far.listen(at);
    (0..40).for_each(|_| link.near.pair_with(&listener, at).close_by_client());
    link.wait_until_quiet();
    let report = other.finish().report();
    let of = |role: &str| {
        format!(
            "synfin_handshake_duration_seconds{{role=\"{role}\",port=\"{PORT}\",class=\"clean\"}}"
        )
    };
    for role in ["server", "client"] {
        let metric = of(role);
        prometheus.wait_for(&format!("histogram_count({metric}) == 40"));
        let p99 = prometheus.value(&format!("histogram_quantile(0.99, {metric})"));
        let p99 = p99.unwrap_or_else(|| panic!("no percentile of {role}"));
        let reported = report.row(role, PORT).count("handshake.clean.p99_us") as f64 / 1e6;
        let ratio = p99 / reported;
        assert!(
            (1.0 / WIDTH..WIDTH).contains(&ratio),
            "{role}: {p99} s, and {reported} s reported"
        );
    }
    let classic = prometheus.query("synfin_handshake_duration_seconds_bucket");
    assert!(classic.is_empty(), "native histograms replace the classic ones: {classic:?}");
    prometheus.finish();
}

/// Makes connections of every kind for some time, and some that stay open.
fn load(link: &Link) -> Vec<Pair> {
    let at = |port| SocketAddr::from((Link::FAR, port));
    let [web, resetting, lossy] = [PORT, RESETTING, LOSSY].map(|port| link.far.listen(at(port)));
    let until = Instant::now() + LOAD;
    let again = |act: &dyn Fn()| {
        while Instant::now() < until {
            act();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| again(&|| link.near.pair_with(&web, at(PORT)).close_by_client()));
        scope.spawn(|| again(&|| link.near.pair_with(&lossy, at(LOSSY)).close_by_server()));
        scope.spawn(|| {
            again(&|| {
                let mut pair = link.near.pair_with(&resetting, at(RESETTING));
                pair.answer_unread(b"an answer");
                drop(pair.client);
                lab::wait_for_end(pair.server);
            });
        });
        scope.spawn(|| again(&|| assert!(link.near.connect(at(CLOSED)).is_err())));
    });
    (0..5).map(|_| link.near.pair_with(&web, at(PORT))).collect()
}

/// The ports that have series of their own, by role.
fn own_ports(prometheus: &Prometheus) -> BTreeSet<(String, String)> {
    let rows = prometheus.query("synfin_connections_established_total");
    rows.iter().map(|row| (row.label("role").into(), row.label("port").into())).collect()
}

/// A report, and Prometheus at the same time.
struct Had<'a> {
    prometheus: &'a Prometheus,
    report: &'a Report,
    own: BTreeSet<(String, String)>,
}

impl Had<'_> {
    #[track_caller]
    fn check_counts(&self) {
        let one = |column: &'static str| {
            move |row: &Value| vec![(String::new(), count(column_of(row, column)))]
        };
        let each = |column: &'static str| {
            move |row: &Value| {
                let counts = row[column].as_object().expect("counts").iter();
                counts.map(|(name, value)| (name.clone(), count(value.clone()))).collect()
            }
        };
        // A port gets its own series with its first connection or repeated failures, so its first
        // attempts may be counted in the series of other ports.
        let attempts = |row: &Value| match &row["role"] {
            role if role == "client" => one("attempts")(row),
            _ => Vec::new(),
        };
        self.check("sum by (role) (synfin_connection_attempts_total)", "", attempts);
        self.check("synfin_connections_established_total", "", one("established"));
        self.check("synfin_connections_adopted_total", "", one("adopted"));
        let failures = "sum by (role, reason) (synfin_connection_failures_total)";
        self.check(failures, "reason", each("failures"));
        self.check("synfin_connections_closed_total", "reason", each("closes"));
        self.check("synfin_connections", "state", each("states"));
        self.check("synfin_time_wait_entered_total", "", one("time_wait.entered"));
        self.check("synfin_time_wait_sockets", "", one("time_wait.now"));
        self.check("synfin_sent_bytes_total", "", one("bytes_sent"));
        self.check("synfin_received_bytes_total", "", one("bytes_received"));
        for class in ["clean", "retransmitted"] {
            let metric = format!("synfin_handshake_duration_seconds_count{{class=\"{class}\"}}");
            self.check(&metric, "", |row| one("count")(&row["handshake"][class]));
        }
    }

    /// Checks that the samples of a query agree with the report's rows.
    #[track_caller]
    fn check(&self, query: &str, label: &str, of: impl Fn(&Value) -> Vec<(String, f64)>) {
        let mut expected = Samples::new();
        for row in self.report.rows() {
            for (name, value) in of(row).into_iter().filter(|(_, value)| *value != 0.0) {
                let (role, mut port) = self.labels(row);
                if query.starts_with("sum by (role") {
                    port.clear();
                }
                *expected.entry((role, port, name)).or_default() += value;
            }
        }
        eventually_equal(query, expected, || {
            let samples = self.prometheus.query(query);
            samples
                .iter()
                .filter(|sample| sample.value() != 0.0)
                .map(|it| column(it, label))
                .collect()
        });
    }

    /// A row's labels in Prometheus.
    fn labels(&self, row: &Value) -> (String, String) {
        let role = row["role"].as_str().expect("a role").to_owned();
        let own = (role.clone(), row["port"].to_string());
        if self.own.contains(&own) { own } else { (role, OTHER.to_owned()) }
    }

    /// Checks the histograms' buckets, and that percentiles are within the same bucket.
    #[track_caller]
    fn check_durations(&self) {
        let metric = "synfin_handshake_duration_seconds_bucket";
        let bounds = |us: &'static [u64]| {
            us.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]).collect::<Vec<_>>()
        };
        for (class, us) in [("clean", BOUNDS_US), ("retransmitted", RETRANSMITTED_BOUNDS_US)] {
            let of_class = format!("{metric}{{class=\"{class}\"}}");
            self.check(&of_class, "le", |row| {
                let buckets = row["handshake"][class]["buckets"].as_array().expect("buckets");
                let up_to = |bound: f64| {
                    let within = |bucket: &&Value| count(bucket[0].clone()) <= bound * 1e6;
                    buckets.iter().filter(within).map(|bucket| count(bucket[1].clone())).sum()
                };
                bounds(us).into_iter().map(|bound| (bound_label(bound), up_to(bound))).collect()
            });
        }

        let p99 = format!("histogram_quantile(0.99, {metric}{{class=\"clean\"}})");
        let found = self.prometheus.query(&p99);
        for row in self.report.rows() {
            let Some(reported) = row["handshake"]["clean"]["p99_us"].as_f64() else { continue };
            let (role, port) = self.labels(row);
            let series =
                found.iter().find(|it| it.label("role") == role && it.label("port") == port);
            let shown = series.unwrap_or_else(|| panic!("no {p99} of {role} {port}")).value();
            // The bucket that contains it.
            let above = |value: f64| bounds(BOUNDS_US).into_iter().find(|bound| value <= *bound);
            assert_eq!(
                above(shown),
                above(reported / 1e6),
                "{role} {port}: {shown} s, {reported} µs"
            );
        }
        assert!(!found.is_empty());
    }

    #[track_caller]
    fn check_events(&self) {
        // Filtered records are other namespaces', which may differ between the two traces.
        for outcome in ["delivered", "lost", "missed", "gaps"] {
            let query = format!("synfin_events_total{{outcome=\"{outcome}\"}}");
            let expected = Some(self.report.event(outcome) as f64);
            eventually_equal(outcome, expected, || self.prometheus.value(&query));
        }
        assert!(self.report.event("delivered") > 1_000, "too little load");
    }
}

fn column(sample: &Series, label: &str) -> ((String, String, String), f64) {
    let [role, port, name] = ["role", "port", label].map(|name| sample.label(name).to_owned());
    ((role, port, name), sample.value())
}

fn count(value: Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a count"))
}

/// A bound as in the text format.
fn bound_label(bound: f64) -> String {
    if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() }
}
