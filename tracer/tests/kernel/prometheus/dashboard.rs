//! The dashboard: every query of every panel returns data from a real Prometheus.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

use super::traffic::Traffic;
use crate::lab::{self, Host, Prometheus, Series, eventually, unix_now};

const DASHBOARD: &str = include_str!("../../../../docs/grafana/synfin.json");

/// The seconds over which the panels compute rates. Prometheus scrapes once a second.
const RATE_INTERVAL: u32 = 10;

#[test]
fn every_panel_of_the_dashboard_shows_real_traffic() {
    if lab::lacks_prometheus("prometheus") {
        return;
    }
    let _lab = lab::enter();
    let traffic = Traffic::new();
    let (servers, clients) = (traffic.servers(), traffic.clients());
    let hosts = [Host("web-1", &servers), Host("app-1", &clients)];
    let prometheus = Prometheus::watch(&hosts, None);
    let begun = unix_now();
    traffic.run_for(Duration::from_secs(15));
    let dashboard = dashboard();
    let mut legends = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = text(&panel["title"]);
        legends.extend(eventually(&format!("data in the panel {title}"), || {
            let legends = legends_shown(panel, &prometheus, (begun, unix_now()));
            (!legends.is_empty() || may_be_empty(panel)).then_some(legends)
        }));
    }
    for legend in
        ["server 8443", "connect_refused_rst", "reset_by_peer", "p99", "established", "app-1"]
    {
        assert!(legends.contains(legend), "no {legend}: {legends:?}");
    }
    prometheus.finish();
}

/// Checks the properties that can be checked without Grafana.
#[test]
fn the_dashboard_can_be_imported() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().expect("variables").iter();
    let names: Vec<_> = variables.filter_map(|variable| variable["name"].as_str()).collect();
    assert_eq!(names, ["datasource", "instance", "role", "port"]);

    let all = dashboard["panels"].as_array().expect("panels");
    let mut taken = BTreeSet::new();
    for (index, panel) in all.iter().enumerate() {
        let title = text(&panel["title"]);
        assert!(all[..index].iter().all(|other| other["id"] != panel["id"]), "{title}: its id");
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|name| {
            panel["gridPos"][name].as_u64().unwrap_or_else(|| panic!("{title}: {name}"))
        });
        assert!(x + width <= 24, "{title} is too wide");
        for place in (y..y + height).flat_map(|y| (x..x + width).map(move |x| (x, y))) {
            assert!(taken.insert(place), "{title} overlaps another panel");
        }
    }
    for panel in panels(&dashboard) {
        let title = text(&panel["title"]);
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{title}");
        for source in [&panel["datasource"], &panel["targets"][0]["datasource"]] {
            assert_eq!(source["uid"], "${datasource}", "{title}");
        }
        let field = &panel["fieldConfig"]["defaults"];
        assert!(field["unit"].is_string(), "{title} has no unit");
        assert!(field["thresholds"]["steps"].is_array(), "{title} has no thresholds");
    }
}

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).expect("JSON")
}

/// The panels that show data.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    panels.filter(|panel| panel["type"] != "row")
}

/// Not every kernel reports these resets.
fn may_be_empty(panel: &Value) -> bool {
    panel["title"] == "Resets without a connection" && !lab::since(6, 10)
}

/// The legends of all series with values that a panel's queries return for a time.
fn legends_shown(panel: &Value, prometheus: &Prometheus, time: (f64, f64)) -> Vec<String> {
    let targets = panel["targets"].as_array().expect("queries").iter();
    let legends = targets.flat_map(|target| {
        let query = filled_in(text(&target["expr"]));
        assert!(!query.contains('$'), "a variable unknown to Grafana: {query}");
        let found = prometheus.query_range(&query, time, 1.0).into_iter();
        let found = found.filter(|series| !series.points.is_empty());
        found.map(|series| legend(text(&target["legendFormat"]), &series))
    });
    legends.collect()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

/// A query as Grafana sends it if every value of its variables is selected.
fn filled_in(query: &str) -> String {
    let rate = format!("{RATE_INTERVAL}s");
    let variables =
        [("$instance", ".*"), ("$role", ".*"), ("$port", ".*"), ("$__rate_interval", &rate)];
    variables.iter().fold(query.to_owned(), |query, (name, value)| query.replace(name, value))
}

/// A legend with the labels of a series.
fn legend(format: &str, series: &Series) -> String {
    let labels = series.labels.iter();
    labels.fold(format.to_owned(), |legend, (label, value)| {
        legend.replace(&format!("{{{{{label}}}}}"), value)
    })
}
