//! Connections whose transitions happen on all CPUs, each of which has a ring: the reader merges them in
//! order. `cargo xtask vm --cpus 8` runs this on more CPUs than the host has.

use std::net::{Ipv4Addr, SocketAddr};

use crate::{
    interrupts::may_miss,
    lab::{self, Load, Namespace, Synfin},
};

const PORT: u16 = 7311;

/// A record that overtakes another one of its connection would be a gap, which `nearly_whole` counts. Only the
/// main hook has the rings, and programs for what the kernel skips: runs of other hooks that it skips are missed.
#[test]
fn transitions_of_all_cpus_are_in_order() {
    let _lab = lab::enter_alone();
    let cpus = lab::cpus();
    // Each client meets servers on all CPUs.
    let load = Load {
        clients: &cpus,
        servers: &cpus,
        width: 4 * cpus.len(),
        each: lab::scaled(10_000, 500),
    };
    let namespace = Namespace::new();
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let listener = namespace.listen(at);
    let (report, counters, off) = lab::nearly_whole(may_miss(), || {
        let id = namespace.id().to_string();
        let report = ["report", "-o", "json", "--tracepoints-only", "-N", &id];
        let synfin = Synfin::watch(report.into_iter().chain(["--ring-size", "16M"]));
        load.run(&namespace, &listener, at);
        namespace.wait_until_quiet();
        let counters = namespace.counters();
        (synfin.finish().report(), counters)
    });

    assert_eq!(report.event("lost"), 0);
    let connections = load.connections() as u64;
    assert_eq!(counters.get("ActiveOpens"), connections);
    for role in ["client", "server"] {
        let row = report.row(role, PORT);
        for column in ["established", "closed"] {
            let reported = row.count(column);
            assert!(reported.abs_diff(connections) <= off, "{role}: {column} is {reported}");
        }
    }
}
