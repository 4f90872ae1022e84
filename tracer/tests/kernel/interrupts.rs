//! Transitions of packets that interrupt a program of the main hook, which the kernel then skips.

use std::net::SocketAddr;

use crate::lab::{self, Load, MayMiss, Synfin, Wire};

const PORT: u16 = 7301;

#[test]
fn transitions_that_interrupt_a_program_are_recorded() {
    check(PORT, &[]);
}

#[test]
fn transitions_that_interrupt_a_program_on_the_trace_event_are_recorded() {
    check(PORT + 1, &["--by-event"]);
}

fn check(port: u16, args: &[&str]) {
    let load = Load { clients: &[0], servers: &[1], width: 64, each: lab::scaled(2_000, 100) };
    let connections = load.connections();
    let _lab = lab::enter_alone();
    let wire = Wire::new();
    wire.near.steer_packets(0);
    wire.far.steer_packets(1);
    let at = SocketAddr::from((Wire::FAR4, port));
    let listener = wire.far.listen(at);
    let ids = lab::ids(wire.both());
    // An emulated machine leaves synfin so little time that the records have to wait.
    let ring: &[&str] = if lab::is_slow() { &["--ring-size", "256M"] } else { &[] };
    let report = ["report", "-o", "json", "--tracepoints-only", "-N", &ids];
    let (report, (), off) = lab::nearly_whole(may_miss(), || {
        let synfin = Synfin::watch(report.iter().chain(ring).chain(args));
        load.run(&wire.near, &listener, at);
        wire.wait_until_quiet();
        (synfin.finish().report(), ())
    });

    let [lost, recovered] = ["lost", "recovered"].map(|name| report.event(name));
    eprintln!("{recovered} runs recovered");
    assert_eq!(lost, 0);
    // Kernels that let programs interrupt themselves skip none, and a slow machine gets few interrupts.
    let is_certain = lab::since(6, 1) && !lab::is_slow();
    assert!(recovered > 0 || !is_certain, "nothing has interrupted a program");
    let is_about = |count: u64, made: usize| count.abs_diff(made as u64) <= off;
    for role in ["client", "server"] {
        let closed = report.row(role, port).count("closed");
        assert!(is_about(closed, connections), "{role}: {closed} closed, not {connections}");
    }
}

/// The records that may be missing. Since 7.0 tasks can be preempted in both later programs at once.
pub(crate) fn may_miss() -> MayMiss {
    if lab::since(7, 0) { MayMiss::one_in(10_000) } else { MayMiss::one_in(100_000) }
}
