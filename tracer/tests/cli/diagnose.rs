//! `diagnose` on handmade recordings: what it finds at single ports, its warnings, and its exit status.

use std::process::{Command, Output};

use synfin::trace::{counters::PortCount, recording::Frame};
use synfin_common::{
    port_count::PortEvent,
    reset::ResetReason,
    state::TcpState::{Established, Listen, NewSynRecv, SynSent},
};
use synfin_testkit::{HOST_NETNS, RecordedKernel, Socket, recording};
use tempfile::TempDir;

/// A run on this recording.
fn run(frames: &[Frame], args: &[&str]) -> Output {
    let dir = TempDir::new().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_synfin"));
    command.args(args).args(["--from", &recording(&dir, frames)]);
    command.output().expect("synfin")
}

/// The exit status, and what was printed on stdout and stderr.
fn tried(frames: &[Frame], args: &[&str]) -> (i32, String, String) {
    let output = run(frames, args);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

/// Events at a local port of the host.
fn at_port(port: u16, event: PortEvent, count: u64) -> PortCount {
    PortCount { netns: HOST_NETNS, port, counted: event.number(), count }
}

/// Clients whose SYN-ACKs get no answer, and a connection on another port.
fn half_open() -> Vec<Frame> {
    let mut kernel = RecordedKernel::begin();
    let scan = |kernel: &mut RecordedKernel, half_open: u64| {
        kernel.scan_begins(HOST_NETNS);
        kernel.scan_finds(Socket::between(1, "0.0.0.0:8080", "0.0.0.0:0"), Listen);
        for number in 0..half_open {
            let peer = format!("198.51.100.7:{}", 40_000 + number);
            let waits = Socket::between(100 + number, "192.0.2.10:8080", &peer);
            kernel.scan_finds(waits, NewSynRecv);
        }
        kernel.scan_ends(HOST_NETNS);
    };
    scan(&mut kernel, 0);
    kernel.tick_at(20);
    let other = Socket::between(2, "192.0.2.10:33001", "203.0.113.80:443");
    kernel.at(100).connection(other, &[SynSent, Established]);
    scan(kernel.at(200), 4);
    kernel.at(1_000).tick_with(&[at_port(8080, PortEvent::SynackRetransmit, 6)]);
    kernel.into_frames()
}

#[test]
fn handshakes_that_nobody_completes_match_the_filters() {
    let frames = half_open();
    let (code, printed, warnings) = tried(&frames, &["diagnose", "-n", "-P", "8080"]);
    assert_eq!((code, &*warnings), (0, ""));
    assert!(printed.contains("server :8080: nobody completes half-open handshakes"), "{printed}");
    for command in ["report", "connections"] {
        let (code, _, warnings) = tried(&frames, &[command, "-P", "8080"]);
        assert_eq!((code, &*warnings), (0, ""), "{command}");
    }
    let (code, _, warnings) = tried(&frames, &["diagnose", "-P", "81"]);
    assert_eq!(code, 0);
    assert!(warnings.contains("nothing matched the filters: they excluded all 2"), "{warnings}");
}

#[test]
fn segments_without_a_connection_are_evidence() {
    let mut kernel = RecordedKernel::begin();
    kernel.scan_host([]);
    let refused = PortEvent::Reset(ResetReason::NoSocket);
    kernel.at(1_000).tick_with(&[at_port(8080, refused, 5)]);
    let frames = kernel.into_frames();
    let (code, printed, warnings) = tried(&frames, &["diagnose", "--fail-on", "warning"]);
    assert_eq!(code, 1, "{printed}");
    assert!(warnings.contains("clients are refused: nobody listens"), "{warnings}");
    // The port is not silent, and nothing critical is wrong with it.
    assert_eq!(tried(&frames, &["diagnose", "--fail-on", "critical"]).0, 0);
    assert_eq!(tried(&frames, &["report", "--fail-on", "bad>0"]).0, 0);
}
