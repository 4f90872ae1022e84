//! A known mix of connections, one kind per port: the report has exactly their counts, which agree
//! with the kernel's counters of their namespaces, for both ways to attach the hook.

mod scenarios;

use self::scenarios::Played;
use crate::lab::{self, Counters, Report, Seen, Synfin, Wire};

#[test]
fn a_known_mix_is_counted_exactly() {
    let _lab = lab::enter();
    let (_folder, recording) = lab::recording_file();
    let recording = &*recording;

    let (reports, wire, played, counters) = lab::seen_whole(|| {
        let wire = Wire::new();
        // Unanswered attempts time out soon.
        wire.near.set("ipv4/tcp_syn_retries", 1);
        let synfin = Synfin::watch(["report", "-o", "json", "--record", recording, "--force"]);
        let by_event = Synfin::watch(["report", "-o", "json", "--by-event"]);
        let played = scenarios::play_all(&wire);
        let counters = wire.both().map(|namespace| {
            namespace.wait_until_quiet();
            namespace.counters()
        });
        let reports = [synfin, by_event].map(|synfin| synfin.finish().report());
        let is_whole = reports.iter().all(|report| report.event("missed") == 0);
        (is_whole, (reports, wire, played, counters))
    });
    reports.iter().for_each(Report::check_nothing_lost);

    let differences = reports.iter().flat_map(|report| differences(&played, report, &counters));
    let mut differences: Vec<_> = differences.collect();
    let seen = Seen::in_recording(recording);
    for (namespace, counters) in wire.both().into_iter().zip(&counters) {
        differences.extend(seen.differences(namespace, counters, 0));
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

/// The differences of the report from the scenarios, and from the kernel's gauges.
fn differences(played: &[Played], report: &Report, counters: &[Counters]) -> Vec<String> {
    let mut differences = Vec::new();
    let mut time_waits = 0;
    for Played { name, port, outcome } in played {
        for (role, expected) in [("client", &outcome.client), ("server", &outcome.server)] {
            let difference = report.difference(role, *port, expected);
            differences.extend(difference.map(|difference| format!("{name}: {difference}")));
            time_waits += report.row(role, *port).timewait_sockets();
        }
    }
    let counted: u64 = counters.iter().map(|counters| counters.get("sockstat.tw")).sum();
    if time_waits != counted {
        differences.push(format!("{counted} sockets are in TIME_WAIT, {time_waits} in the report"));
    }
    differences
}
