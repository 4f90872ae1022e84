//! `docs/accuracy.md`: scenario by scenario, what synfin, the kernel and other tools say.

use std::{collections::BTreeMap, fmt::Write};

use serde::Deserialize;

use synfin::output::column::Value;

use super::{
    expected::Scenario,
    judge::{Seen, SeenConnection},
};

/// What other tools said of a scenario, in brief.
#[derive(Deserialize)]
pub(crate) struct Said {
    tcpstates: Vec<String>,
    tcplife: Vec<String>,
}

const INTRODUCTION: &str = "\
# Accuracy

Every way in which a connection can open, fail and end that can be produced on one machine, each
played in a network namespace of its own, most of them by a scripted peer behind a TUN device.
`cargo xtask accuracy` plays them again and writes this page; the recordings are kept in
`tracer/tests/accuracy/recordings`, so that every test run checks what synfin says of them.

**synfin** has a line per connection: role, handshake (clean, retransmitted or unmeasured) and how
long it took, why it ended, and whether it left a TIME_WAIT; then those figures of the port's row
that matter. **The kernel's counters** are those of `/proc/net/snmp` and
`netstat` for that namespace: they moved by exactly this much, and no other counter that tells of
connections moved. **tcpstates** and **tcplife**, of libbpf-tools, ran beside: the states of each
socket as the former prints them, with the milliseconds that it gives for the step to ESTABLISHED;
and whose connection the latter says it was, and for how long (the processes of the scenario are
\"the test\"). A dash is nothing at all.
";

/// What cannot be produced here, and why.
const NOT_PRODUCED: &[(&str, &str)] = &[
    (
        "BPF SYN cookies",
        "a program of another kind would have to make them; the handshake is as with the kernel's own",
    ),
    (
        "an ICMP error for a SYN while connect() holds the socket",
        "a matter of less than a microsecond that nothing makes longer",
    ),
    (
        "a child that loses the race for its place in the hash table",
        "two CPUs would have to get the same last ACK at the same time",
    ),
    (
        "an orphan for which there is no memory",
        "the limits (tcp_mem, tcp_max_orphans) are the whole host's, and other tests run beside",
    ),
    (
        "a namespace that goes away with connections",
        "a process's socket keeps its namespace alive; only sockets of the kernel's own do not",
    ),
    (
        "SCTP and DCCP",
        "synfin leaves them out; what the tracepoint says of them is known from the source only",
    ),
    ("a reset that overtakes the data before it", "the peer's packets are taken one by one"),
];

pub(crate) fn page(
    groups: &[(&str, &[Scenario])],
    seen: impl Fn(&str) -> Seen,
    others: &BTreeMap<String, Said>,
) -> String {
    let mut page = INTRODUCTION.to_owned();
    for (group, scenarios) in groups {
        page += &format!("\n## {group}\n\n");
        page += "| what happens | synfin | the kernel's counters | tcpstates | tcplife |\n";
        page += "| --- | --- | --- | --- | --- |\n";
        for scenario in *scenarios {
            let said = &others[scenario.name];
            writeln!(
                page,
                "| {} | {} | {} | {} | {} |",
                scenario.what,
                lines(&synfin(scenario, &seen(scenario.name))),
                lines(&[scenario.kernel].map(str::to_owned)),
                lines(&said.tcpstates),
                lines(&said.tcplife),
            )
            .expect("memory");
        }
    }
    page += "\n## Not produced\n\n| what | why |\n| --- | --- |\n";
    for (what, why) in NOT_PRODUCED {
        writeln!(page, "| {what} | {why} |").expect("memory");
    }
    page
}

/// The connections, then the figures that matter.
fn synfin(scenario: &Scenario, seen: &Seen) -> Vec<String> {
    let figures = scenario.figures.iter().map(|&(role, port, figure, _)| {
        match seen.figure(role, port, figure) {
            Ok(Value::Int(value)) => format!("{figure} {value}"),
            other => format!("{figure} {other:?}"),
        }
    });
    seen.connections.iter().map(connection).chain(figures).collect()
}

/// As [`Scenario::synfin`] puts it, with the time that the handshake took.
fn connection(seen: &SeenConnection) -> String {
    let Some(us) = seen.took_us else {
        return seen.line.clone();
    };
    let mut words: Vec<_> = seen.line.split(' ').map(str::to_owned).collect();
    words.insert(2, format!("({:.3} ms)", f64::from(us) / 1000.0));
    words.join(" ")
}

/// Lines in a cell of a table.
fn lines(lines: &[String]) -> String {
    let lines: Vec<_> = lines.iter().filter(|line| !line.is_empty()).map(String::as_str).collect();
    if lines.is_empty() { "–".to_owned() } else { lines.join("<br>") }
}
