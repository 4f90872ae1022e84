//! A known mix of connections, one kind a port: the report has exactly their numbers, and they
//! agree with what the kernel itself counted in their namespaces.

mod scenarios;

use serde_json::Value;

use self::scenarios::Played;
use crate::lab::{self, Counters, Namespace, Report, Synfin, Wire};

#[test]
fn a_known_mix_has_exactly_its_numbers() {
    let _lab = lab::enter();
    let folder = tempfile::tempdir().expect("a folder");
    let recording = folder.path().join("recording");
    let recording = recording.to_str().expect("a plain path");

    let (report, (wire, played, counters)) = lab::conclusive(|| {
        let wire = Wire::new();
        // What is not answered is soon given up.
        wire.near.set("ipv4/tcp_syn_retries", 1);
        let synfin = Synfin::watch(["report", "-o", "json", "--record", recording]);
        let played = scenarios::play_all(&wire);
        let counters = wire.both().map(|namespace| {
            namespace.settle();
            namespace.counters()
        });
        (synfin.finish().report(), (wire, played, counters))
    });
    report.check_nothing_lost();

    let mut differences = differences(&played, &report, &counters);
    let replay = |args: &[&str]| {
        Synfin::run(args.iter().copied().chain(["-o", "json", "--from", recording])).json_lines()
    };
    let seen = Seen {
        ended: replay(&["connections"]),
        open: replay(&["connections", "--open"]),
        transitions: replay(&["trace"]),
    };
    for (namespace, counters) in wire.both().into_iter().zip(&counters) {
        differences.extend(seen.within(namespace).differences(counters));
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

/// Where the report differs from what was played, and from the kernel's gauges.
fn differences(played: &[Played], report: &Report, counters: &[Counters]) -> Vec<String> {
    let mut differences = Vec::new();
    let mut time_waits = 0;
    for Played { name, port, outcome } in played {
        for (role, expected) in [("client", &outcome.client), ("server", &outcome.server)] {
            let difference = report.difference(role, *port, expected);
            differences.extend(difference.map(|difference| format!("{name}: {difference}")));
            time_waits += report.row(role, *port).figure("time_wait.now");
        }
    }
    let counted: u64 = counters.iter().map(|counters| counters.get("sockstat.tw")).sum();
    if time_waits != counted {
        differences.push(format!("{counted} sockets are in TIME_WAIT, {time_waits} in the report"));
    }
    differences
}

/// What synfin saw, connection by connection.
struct Seen {
    ended: Vec<Value>,
    open: Vec<Value>,
    transitions: Vec<Value>,
}

impl Seen {
    fn within(&self, namespace: &Namespace) -> Self {
        let id = namespace.id();
        let of =
            |lines: &[Value]| lines.iter().filter(|line| line["netns"] == id).cloned().collect();
        Self { ended: of(&self.ended), open: of(&self.open), transitions: of(&self.transitions) }
    }

    /// Where the kernel's counters do not follow from what was seen.
    fn differences(&self, counters: &Counters) -> Vec<String> {
        let count = |lines: &[Value], which: &dyn Fn(&Value) -> bool| {
            lines.iter().filter(|line| which(line)).count() as u64
        };
        let is = |figure: &'static str, values: &'static [&'static str]| {
            move |line: &Value| values.iter().any(|value| line[figure] == *value)
        };
        let is_client = is("role", &["client"]);
        let is_server = is("role", &["server"]);
        let in_use = is("state", &["established", "close_wait"]);
        let failed_locally = is("reason", &["connect_local_failure"]);
        let failed_by_the_kernel = is(
            "reason",
            &[
                "connect_refused_rst",
                "connect_refused_icmp",
                "connect_timeout",
                "connect_unreachable_host",
                "connect_unreachable_net",
                "connect_destroyed",
            ],
        );
        let aborted = |line: &Value| {
            is("old", &["established", "close_wait"])(line) && line["new"] == "close"
        };
        let all =
            |which: &dyn Fn(&Value) -> bool| count(&self.ended, which) + count(&self.open, which);
        let figures = [
            ("ActiveOpens", all(&is_client) - count(&self.ended, &failed_locally)),
            ("PassiveOpens", all(&is_server)),
            ("AttemptFails", count(&self.ended, &failed_by_the_kernel)),
            ("EstabResets", count(&self.transitions, &aborted)),
            ("CurrEstab", count(&self.open, &in_use)),
            // Entries since Linux 6.1; exits before.
            ("TW", count(&self.ended, &|line| line["time_wait"] == true)),
        ];
        eprintln!("{:?}", ["TW", "TWKilled", "TWRecycled"].map(|n| counters.get(n)));
        let counted = figures.map(|(name, seen)| (name, seen, counters.get(name)));
        let differ = counted.iter().filter(|(_, seen, counted)| seen != counted);
        differ.map(|(name, seen, counted)| format!("{name} is {counted}, not {seen}")).collect()
    }
}
