//! The dashboard: every query of it gives something, and its first panels are drawn of real traffic.

use std::{collections::BTreeSet, fs, thread, time::Duration};

use serde_json::Value;

use super::connection::Life;
use crate::lab::{self, Chart, Host, Line, Prometheus, Series, unix_now};

const DASHBOARD: &str = include_str!("../../../../docs/grafana/synfin.json");

/// So many seconds a rate is of, in which several fetches are.
const RATE_INTERVAL: u32 = 10;
/// Between two values of a line.
const STEP: f64 = 1.0;

/// Panels that are in the picture.
const DRAWN: [&str; 8] = [
    "New connections",
    "Bad ends by reason",
    "Handshake time",
    "Handshakes with a retransmission",
    "TIME_WAIT",
    "Ephemeral ports used",
    "Accept queues",
    "Living connections by state",
];

/// The picture in README.md; `cargo xtask docs --pictures` draws it of a longer time, and writes it.
#[test]
fn every_panel_of_the_dashboard_shows_real_traffic() {
    if lab::lacks_prometheus("prometheus") {
        return;
    }
    let update = std::env::var_os("UPDATE_PICTURES").is_some();
    let (seconds, ports) = if update { (90, 800) } else { (20, 800) };
    let _lab = lab::enter();
    let connection = Life::new(ports);
    let (servers, clients) = (connection.servers(), connection.clients());
    let hosts = [Host("web-1", &servers), Host("app-1", &clients)];
    let prometheus = Prometheus::watch(&hosts, None);
    let begun = unix_now();
    connection.go_on(Duration::from_secs(seconds));
    // The last fetch, of the last figures.
    thread::sleep(Duration::from_secs(2));
    let time = (begun + f64::from(RATE_INTERVAL), begun + seconds as f64);

    let mut charts = Vec::new();
    for panel in panels() {
        let chart = panel.chart(&prometheus, time);
        let points = chart.lines.iter().flat_map(|line| &line.points);
        assert!(points.count() > 0 || may_be_empty(&panel), "{}: nothing", chart.title);
        if panel.is("timeseries") {
            charts.push(chart);
        }
    }
    let place = |chart: &Chart| DRAWN.iter().position(|drawn| *drawn == chart.title);
    charts.retain(|chart| place(chart).is_some());
    charts.sort_by_key(place);
    assert_eq!(charts.len(), DRAWN.len());

    let picture = lab::charts(&charts, time, STEP);
    for part in
        ["server 8443", "connect_refused_rst", "reset_by_peer", "p99", "established", "app-1"]
    {
        assert!(picture.contains(&format!("{part}</text>")), "no {part}: {picture}");
    }
    let lines: usize = charts.iter().map(|chart| chart.lines.len()).sum();
    assert!(picture.matches("fill=\"none\" stroke=\"#").count() >= lines, "lines are missing");
    prometheus.finish();
    if update {
        let path = format!("{}/../docs/dashboard.svg", env!("CARGO_MANIFEST_DIR"));
        fs::write(path, picture).expect("the picture is written");
    }
}

/// As far as that can be seen without Grafana.
#[test]
fn the_dashboard_can_be_imported_as_it_is() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let variables = dashboard["templating"]["list"].as_array().expect("variables").iter();
    let names: Vec<_> = variables.filter_map(|variable| variable["name"].as_str()).collect();
    assert_eq!(names, ["datasource", "instance", "role", "port"]);

    let panels = dashboard["panels"].as_array().expect("panels");
    let mut taken = BTreeSet::new();
    for (index, panel) in panels.iter().enumerate() {
        let title = panel["title"].as_str().expect("a title");
        assert!(panels[..index].iter().all(|other| other["id"] != panel["id"]), "{title}: its id");
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|name| {
            panel["gridPos"][name].as_u64().unwrap_or_else(|| panic!("{title}: {name}"))
        });
        assert!(x + width <= 24, "{title} is too wide");
        for place in (y..y + height).flat_map(|y| (x..x + width).map(move |x| (x, y))) {
            assert!(taken.insert(place), "{title} lies upon another panel");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{title}");
        for source in [&panel["datasource"], &panel["targets"][0]["datasource"]] {
            assert_eq!(source["uid"], "${datasource}", "{title}");
        }
    }
}

/// What not every kernel tells.
fn may_be_empty(panel: &Panel) -> bool {
    panel.0["title"] == "Resets without a connection" && !lab::since(6, 10)
}

/// A panel as Grafana has it.
struct Panel(Value);

/// All that show something.
fn panels() -> Vec<Panel> {
    let mut dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let Value::Array(panels) = dashboard["panels"].take() else { panic!("no panels") };
    let panels: Vec<_> = panels.into_iter().filter(|it| it["type"] != "row").map(Panel).collect();
    assert!(panels.len() > DRAWN.len());
    panels
}

impl Panel {
    fn is(&self, kind: &str) -> bool {
        self.0["type"] == kind
    }

    /// What it shows of a time.
    fn chart(&self, prometheus: &Prometheus, time: (f64, f64)) -> Chart {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let field = &self.0["fieldConfig"]["defaults"];
        let mut lines = Vec::new();
        for target in self.0["targets"].as_array().expect("queries") {
            let query = filled_in(&text(&target["expr"]));
            assert!(!query.contains('$'), "a variable that Grafana does not give: {query}");
            let found = prometheus.query_range(&query, time, STEP);
            let named = |series: Series| {
                let name = named(&text(&target["legendFormat"]), &series);
                Line { is_dashed: name.ends_with(" limit"), name, points: series.points }
            };
            lines.extend(found.into_iter().map(named));
        }
        let steps = field["thresholds"]["steps"].as_array().expect("steps");
        Chart {
            title: text(&self.0["title"]),
            unit: text(&field["unit"]),
            is_stacked: field["custom"]["stacking"]["mode"] == "normal",
            is_logarithmic: field["custom"]["scaleDistribution"]["type"] == "log",
            most: field["max"].as_f64(),
            limit: steps.last().and_then(|step| step["value"].as_f64()),
            lines,
        }
    }
}

/// As Grafana fills in its variables if all is chosen.
fn filled_in(query: &str) -> String {
    let rate = format!("{RATE_INTERVAL}s");
    let variables =
        [("$instance", ".*"), ("$role", ".*"), ("$port", ".*"), ("$__rate_interval", &rate)];
    variables.iter().fold(query.to_owned(), |query, (name, value)| query.replace(name, value))
}

/// A legend with the labels of a series.
fn named(legend: &str, series: &Series) -> String {
    let labels = series.labels.iter();
    labels.fold(legend.to_owned(), |name, (label, value)| {
        name.replace(&format!("{{{{{label}}}}}"), value)
    })
}
