//! `diagnose` finds the outages of recordings from real hosts, in `tests/recordings`.

use std::{path::Path, process::Command};

use serde_json::Value;

/// The findings of a recording: their ids and ports, and what was seen.
fn findings(recording: &str) -> Vec<(String, u64, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let mut command = Command::new(env!("CARGO_BIN_EXE_synfin"));
    command.args(["diagnose", "-o", "json", "--from"]).arg(folder.join(recording));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let diagnosis: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = diagnosis["findings"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    findings.map(|it| (text(&it["id"]), it["port"].as_u64().unwrap(), text(&it["seen"]))).collect()
}

/// Ten established connections whose path is cut.
#[test]
fn connections_whose_path_is_cut_are_found() {
    let found = findings("stall.rec");
    let [(id, port, seen)] = &found[..] else { panic!("{found:#?}") };
    assert_eq!((&**id, *port), ("connections_time_out", 9_800));
    assert!(seen.starts_with("10 of 10 connections"), "{seen}");
}

/// Sixty connections that nobody accepts for 21 s.
#[test]
fn a_server_that_does_not_accept_is_found() {
    let found = findings("hung.rec");
    let [(id, _, seen)] = &found[..] else { panic!("{found:#?}") };
    assert_eq!(id, "nobody_accepts");
    let parts = ["60 connections wait for accept()", "taken none for 21.6 s", "the limit is 128"];
    assert!(parts.iter().all(|part| seen.contains(part)), "{seen}");
}
