//! `report --fail-on`: true and false conditions, their messages, and the exit status.

use std::process::Command;

use synfin_common::state::TcpState::SynSent;
use synfin_testkit::{
    RecordedKernel, Socket, recording,
    sample::{web_server, web_server_with_losses},
};
use tempfile::TempDir;

/// The exit status of a report on this recording, and its message.
fn tried(frames: &[synfin::trace::recording::Frame], args: &[&str]) -> (i32, String) {
    let dir = TempDir::new().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_synfin"));
    let output = command.args(["report", "--from", &recording(&dir, frames)]).args(args).output();
    let output = output.expect("synfin");
    let code = output.status.code().expect("an exit code");
    (code, String::from_utf8(output.stderr).expect("text"))
}

#[test]
fn a_condition_that_is_true_is_reported_with_its_value() {
    for (condition, value) in [
        ("abnormal>0", "1"),
        ("failed>=3", "3"),
        ("client.failed==3", "3"),
        ("server:8080.handshake.clean.p99_us>1000", "1.23ms"),
        ("client:443.handshake.clean.p99_us<=30338", "30.3ms"),
        ("handshake.clean.p99_us>30000", "30.3ms"),
        ("client.failures.connect_timeout = 1", "1"),
        ("server.accept_queue.peak>2", "3"),
        ("accept_queue.peak>2", "3"),
        ("events.seen!=28", "29"),
        ("interval.seconds<3.5", "3"),
    ] {
        let (code, printed) = tried(&web_server(), &["--fail-on", condition]);
        assert_eq!(code, 1, "{condition}: {printed}");
        assert!(
            printed.contains(&format!("--fail-on '{condition}': the value is {value}")),
            "{printed}"
        );
    }
}

#[test]
fn a_condition_that_is_false_is_not_reported() {
    for condition in [
        "abnormal>1",
        "client.failed>3",
        "server:8080.handshake.clean.p99_us>1300",
        "closes.reset_by_us_memory>0",
        "events.lost>0",
        "host.counters.ListenOverflows>0",
    ] {
        assert_eq!(
            tried(&web_server(), &["--fail-on", condition]),
            (0, String::new()),
            "{condition}"
        );
    }
}

#[test]
fn one_true_condition_in_one_report_is_enough() {
    let (code, printed) =
        tried(&web_server(), &["--fail-on", "abnormal>5", "--fail-on", "failed>0"]);
    assert_eq!((code, printed.matches("--fail-on").count()), (1, 1), "{printed}");
    // Only in the interval of the event.
    let (code, printed) = tried(&web_server(), &["1", "--fail-on", "abnormal>0"]);
    assert_eq!((code, printed.matches("--fail-on").count()), (1, 1), "{printed}");
    assert_eq!(tried(&web_server(), &["1", "--fail-on", "abnormal>1"]).0, 0);
}

#[test]
fn a_condition_without_evidence_is_inconclusive() {
    let inconclusive = |frames: &[_], condition: &str, why: &str| {
        let (code, printed) = tried(frames, &["--fail-on", condition]);
        assert_eq!(code, 4, "{condition}: {printed}");
        assert!(
            printed.contains("inconclusive: ") && printed.contains(why),
            "{condition}: {printed}"
        );
    };
    inconclusive(&web_server(), "server:9999.abnormal>0", "nothing happened that it measures");
    inconclusive(
        &web_server(),
        "server:22.handshake.clean.p99_us>1",
        "nothing happened that it measures",
    );
    inconclusive(&web_server_with_losses(), "abnormal>0", "records are missing");
    let mut short = RecordedKernel::begin();
    short.scan_host([]);
    short.connection(Socket::between(1, "192.0.2.1:40000", "192.0.2.80:443"), &[SynSent]);
    short.tick_at(99);
    inconclusive(&short.frames, "new_per_s>1", "no interval was long enough for rates");
    short.tick_at(100);
    assert_eq!(tried(&short.frames, &["--fail-on", "new_per_s>1"]).0, 1);
    let mut silent = RecordedKernel::begin();
    silent.tick_at(1_000);
    inconclusive(&silent.frames, "abnormal>0", "no connection was observed");
    // A connection that was seen is evidence in spite of losses.
    assert_eq!(tried(&web_server_with_losses(), &["--fail-on", "established>0"]).0, 1);
}

#[test]
fn a_malformed_condition_is_a_usage_error() {
    for (condition, says) in [
        ("abnormale>0", "did you mean abnormal?"),
        ("abnormal", "a condition is"),
        ("why>0", "not a number"),
    ] {
        let (code, printed) = tried(&web_server(), &["--fail-on", condition]);
        assert_eq!(code, 2, "{printed}");
        assert!(printed.contains(says), "{printed}");
    }
}
