//! Packets that interrupt a program: the kernel then skips the programs of their own events that are
//! already running.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::lab::{self, Synfin, Wire};

const PORT: u16 = 7301;

/// Connections at a time.
const WIDTH: usize = 64;

/// Pins the calling thread to a CPU.
fn pin(cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).expect("a CPU");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("permission to pin a thread");
}

/// Connections whose client resets them; the server closes the others first.
const ONE_RESET_IN: usize = 4;
const RESET: u8 = 0;
const CLOSED: u8 = 1;

/// Clients and servers have a CPU each.
fn load(wire: &Wire, listener: &TcpListener, at: SocketAddr, connections: usize) {
    let each = connections / WIDTH;
    let serve = || {
        pin(1);
        for _ in 0..each {
            let mut server = lab::accept(listener);
            let mut how = [RESET];
            if server.read(&mut how).is_ok() && how == [RESET] {
                let _ = server.read(&mut how);
            }
        }
    };
    let call = || {
        wire.near.within(|| {
            pin(0);
            for index in 0..each {
                let mut client = TcpStream::connect(at).expect("a connection");
                if index % ONE_RESET_IN == 0 {
                    client.write_all(&[RESET]).expect("room for a byte");
                    lab::reset(client);
                } else {
                    client.write_all(&[CLOSED]).expect("room for a byte");
                    assert_eq!(client.read(&mut [0]).expect("the end"), 0);
                }
            }
        });
    };
    thread::scope(|scope| {
        (0..WIDTH).for_each(|_| drop(scope.spawn(serve)));
        (0..WIDTH).for_each(|_| drop(scope.spawn(call)));
    });
}

#[test]
fn events_that_interrupt_a_program_are_recorded() {
    let connections = lab::scaled(128_000, 6_400) / WIDTH * WIDTH;
    let resets = connections / ONE_RESET_IN;
    let _lab = lab::enter_alone();
    let wire = Wire::new();
    wire.near.steer_packets(0);
    wire.far.steer_packets(1);
    let at = SocketAddr::from((Wire::FAR4, PORT));
    let listener = wire.far.listen(at);
    let ids = lab::ids(wire.both());
    // The load leaves synfin so little time that the records have to wait.
    let ring = ["--ring-size", "256M"];
    let report = ["report", "-o", "json", "--tracepoints-only", "-N", &ids];
    let synfin = Synfin::watch(report.iter().chain(&ring));
    load(&wire, &listener, at, connections);
    wire.wait_until_quiet();
    let report = synfin.finish().report();

    let [seen, lost, recovered, missed, gaps] =
        ["seen", "lost", "recovered", "missed", "gaps"].map(|name| report.event(name));
    eprintln!("{seen} records, {recovered} runs recovered, {missed} missed, {gaps} gaps");
    assert_eq!(lost, 0);
    // Kernels that let programs interrupt themselves skip none.
    assert!(recovered > 0 || !lab::since(6, 1), "nothing has interrupted a program");
    // The kernels of some virtual machines run no programs at all in interrupts of certain tasks, and
    // count none as skipped.
    let may_miss = if lab::is_slow() { 0 } else { seen / 2_000 };
    assert!(missed + gaps <= may_miss, "{missed} missed, {gaps} gaps");
    let is_about = |count: u64, made: usize| count.abs_diff(made as u64) <= missed + gaps;
    let [client, server] = ["client", "server"].map(|role| report.row(role, PORT));
    for (what, count, made) in [
        ("closed clients", client.count("closed"), connections),
        ("closed servers", server.count("closed"), connections),
        ("clients that reset", client.count("closes.reset_by_us_linger0"), resets),
        ("servers that were reset", server.count("closes.reset_by_peer"), resets),
    ] {
        assert!(is_about(count, made), "{what}: {count}, not {made}");
    }
}
