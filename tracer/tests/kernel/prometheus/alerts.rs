//! The alert rules are valid, and fire under their conditions only.

use std::process::Command;

use crate::lab;

/// The directory of the rules.
pub(super) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/prometheus");

#[test]
fn alerts_fire_under_their_conditions_only() {
    if lab::lacks_prometheus("promtool") {
        return;
    }
    for args in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let mut promtool = Command::new("promtool");
        let output = promtool.args(args).current_dir(FOLDER).output().expect("promtool");
        let [printed, wrong] =
            [output.stdout, output.stderr].map(|it| String::from_utf8(it).expect("text"));
        assert!(output.status.success() && wrong.is_empty(), "{printed}{wrong}");
    }
}

#[test]
fn every_alert_has_tests() {
    let alerts = include_str!("../../../../docs/prometheus/alerts.yml");
    let tests = include_str!("../../../../docs/prometheus/alerts_test.yml");
    let names = |text: &str, before: &str| {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix(before));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let tried = names(tests, "- alertname: ");
    let defined = names(alerts, "- alert: ");
    assert!(!defined.is_empty());
    for alert in defined {
        // One test that it fires, and one that it does not.
        let times = tried.iter().filter(|tried| **tried == alert).count();
        assert!(times >= 2, "{alert} is tested {times} times in alerts_test.yml");
    }
}
