//! Generates `docs/accuracy.md`: the output of synfin, the kernel and other tools by scenario.

use std::{collections::BTreeMap, fmt::Write};

use serde::Deserialize;
use synfin::output::column::Value;

use super::{
    expected::Scenario,
    replayed::{Replayed, ReplayedConnection},
};

/// The output of other tools for a scenario, abbreviated.
#[derive(Deserialize)]
pub(crate) struct ToolOutput {
    tcpstates: Vec<String>,
    tcplife: Vec<String>,
}

const INTRODUCTION: &str = "\
# Accuracy

All ways in which a connection can open, fail and end that can be produced on one machine. Each scenario
runs in its own network namespace, most of them with a scripted peer behind a TUN device.
`cargo xtask accuracy` runs them again and writes this page. The recordings are in
`tracer/tests/accuracy/recordings`, and every test run checks what synfin reports for them.

**synfin**: a line per connection with role, handshake (clean, retransmitted or unmeasured) and its time,
the close reason, and whether it left a TIME_WAIT; then the relevant columns of the port's row.
**The kernel's counters**: those of `/proc/net/snmp` and `netstat` in that namespace. They changed by
exactly this much, and no other counter of connections changed. **tcpstates** and **tcplife**, from
libbpf-tools, ran at the same time. The first prints the states of each socket, with the milliseconds up to
ESTABLISHED; the second prints the owner and the duration of each connection (the processes of the scenario
are \"the test\"). A dash means no output.
";

/// Cases that cannot be produced here, and the reason.
const NOT_PRODUCED: &[(&str, &str)] = &[
    (
        "BPF SYN cookies",
        "they need a program of another kind; the handshake is the same as with the kernel's own",
    ),
    (
        "an ICMP error for a SYN while connect() holds the socket",
        "the window is less than a microsecond, and nothing extends it",
    ),
    (
        "a child that loses the race for its place in the hash table",
        "two CPUs would have to receive the same last ACK at the same time",
    ),
    (
        "an orphan for which there is no memory",
        "the limits (tcp_mem, tcp_max_orphans) are those of the whole host, and other tests run at the same time",
    ),
    (
        "a network namespace that is removed while it has connections",
        "the socket of a process keeps its namespace; only sockets of the kernel do not",
    ),
    (
        "SCTP and DCCP",
        "synfin ignores them; what the tracepoint reports for them is known only from the kernel source",
    ),
    ("a reset that overtakes the data before it", "the peer's packets are processed one by one"),
];

pub(crate) fn page(
    groups: &[(&str, &[Scenario])],
    seen: impl Fn(&str) -> Replayed,
    others: &BTreeMap<String, ToolOutput>,
) -> String {
    let mut page = INTRODUCTION.to_owned();
    for (group, scenarios) in groups {
        page += &format!("\n## {group}\n\n");
        page += "| what happens | synfin | the kernel's counters | tcpstates | tcplife |\n";
        page += "| --- | --- | --- | --- | --- |\n";
        for scenario in *scenarios {
            let printed = &others[scenario.name];
            writeln!(
                page,
                "| {} | {} | {} | {} | {} |",
                scenario.what,
                lines(&synfin(scenario, &seen(scenario.name))),
                lines(&[scenario.kernel].map(str::to_owned)),
                lines(&printed.tcpstates),
                lines(&printed.tcplife),
            )
            .expect("memory");
        }
    }
    page += "\n## Not produced\n\n| what | why |\n| --- | --- |\n";
    for (what, why) in NOT_PRODUCED {
        writeln!(page, "| {what} | {why} |").expect("writing to a string succeeds");
    }
    page
}

/// The connections, then the statistics of the scenario.
fn synfin(scenario: &Scenario, seen: &Replayed) -> Vec<String> {
    let columns = scenario.columns.iter().map(|&(role, port, column, _)| {
        match seen.value(role, port, column) {
            Ok(Value::Int(value)) => format!("{column} {value}"),
            other => format!("{column} {other:?}"),
        }
    });
    seen.connections.iter().map(connection).chain(columns).collect()
}

/// A line in the form of [`Scenario::synfin`], with the time that the handshake took.
fn connection(seen: &ReplayedConnection) -> String {
    let Some(us) = seen.took_us else {
        return seen.line.clone();
    };
    let mut words: Vec<_> = seen.line.split(' ').map(str::to_owned).collect();
    words.insert(2, format!("({:.3} ms)", f64::from(us) / 1000.0));
    words.join(" ")
}

/// Joins lines for a cell of a table.
fn lines(lines: &[String]) -> String {
    let lines: Vec<_> = lines.iter().filter(|line| !line.is_empty()).map(String::as_str).collect();
    if lines.is_empty() { "–".to_owned() } else { lines.join("<br>") }
}
