//! `compare` on handmade recordings: findings, lifetimes, filters and the exit status.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use synfin::{
    tcp::role::Role,
    trace::{event::Closing, recording::Frame},
};
use synfin_common::{
    event::Flags,
    state::TcpState::{CloseWait, Established, LastAck, SynRecv},
};
use synfin_testkit::{ORPHAN, RecordedKernel, SHUT, Socket, closing, recorded};
use tempfile::TempDir;

const CONNECTIONS: u64 = 10;

/// Connections of a server on port 8080 that last for this many milliseconds. It closes so many of them
/// with unread data, clients close the others.
pub(crate) fn served(unread: u64, lifetime: u64) -> Vec<Frame> {
    let mut kernel = RecordedKernel::begin();
    kernel.scan_host([]);
    kernel.at(50).listens(Socket::between(1, "0.0.0.0:8080", "0.0.0.0:0"), "api");
    let child = |number: u64| {
        let remote = format!("198.51.100.7:{}", 40_000 + number);
        let socket = Socket::between(100 + number, "192.0.2.10:8080", &remote);
        Socket { role: Role::Server, ..socket }
    };
    for number in 0..CONNECTIONS {
        kernel.at(100 + number).connection(child(number), &[SynRecv, Established]);
    }
    for number in 0..CONNECTIONS {
        let child = child(number);
        kernel.at(100 + number + lifetime);
        if number < unread {
            kernel.closes_with(child, Established, |end| {
                end.flags = Flags::HAS_SOCKET.with(SHUT);
                end.closing = Some(Closing { unread: 7, ..closing(100, 40) });
            });
        } else {
            kernel.moves(child, (Established, CloseWait));
            kernel.moves(child, (CloseWait, LastAck));
            kernel.closes(child, LastAck, ORPHAN.with(Flags::FIN_RECEIVED), 0);
        }
    }
    kernel.tick_at(2_000);
    kernel.into_frames()
}

/// Two recordings.
struct Sides {
    folder: TempDir,
}

impl Sides {
    fn of(before: &[Frame], after: &[Frame]) -> Self {
        let folder = TempDir::new().expect("a directory");
        for (name, frames) in [("before", before), ("after", after)] {
            fs::write(folder.path().join(name), recorded(frames)).expect("a file");
        }
        Self { folder }
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_synfin"));
        let output = command.args(args).current_dir(&self.folder).output().expect("synfin");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
    }

    fn compared(&self, args: &[&str]) -> (i32, String, String) {
        self.run(&[&["compare", "before", "after"], args].concat())
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

#[test]
fn a_new_finding_is_said_first() {
    let sides = Sides::of(&served(0, 100), &served(5, 100));
    let (code, printed, warnings) = sides.compared(&[]);
    assert_eq!((code, &*warnings), (0, ""));
    let mut lines = printed.lines();
    let first = lines.next().expect("a line");
    assert!(first.starts_with("new finding: warning server :8080 (api"), "{printed}");
    assert!(first.ends_with(": connections are closed with unread data"), "{printed}");
    assert!(lines.next().expect("a line").contains("seen     5 of 10 connections"), "{printed}");
    assert!(printed.contains("; findings: 1 new ("), "{printed}");

    let compared: Value = serde_json::from_str(&sides.compared(&["-o", "json"]).1).expect("JSON");
    let [finding] = &compared["findings"].as_array().expect("a list")[..] else {
        panic!("{compared:#}")
    };
    let typed = ["id", "verdict", "severity", "role", "port"].map(|key| finding[key].clone());
    let expected = [json!("unread_data"), json!("new"), json!("warning"), json!("server")];
    assert_eq!((&typed[..4], &typed[4]), (&expected[..], &json!(8080)));
    assert_eq!(finding["counts"], json!({ "before": null, "after": 5 }));
    assert!(finding["command"].as_str().expect("text").ends_with(" --from after"), "{finding:#}");

    // Half of ten connections may be chance, but the finding is not.
    let exit = |least| sides.compared(&["--fail-on", least]).0;
    assert_eq!(["notice", "warning", "critical"].map(exit), [1, 1, 0]);
}

#[test]
fn a_finding_that_is_gone_is_said() {
    let sides = Sides::of(&served(5, 100), &served(0, 100));
    let (_, printed, _) = sides.compared(&[]);
    assert!(printed.starts_with("gone finding: warning server :8080 (api"), "{printed}");
    assert!(!printed.contains("seen "), "{printed}");
    let compared: Value = serde_json::from_str(&sides.compared(&["-o", "json"]).1).expect("JSON");
    assert_eq!(compared["findings"][0]["counts"], json!({ "before": 5, "after": null }));
    assert_eq!(sides.compared(&["--fail-on", "notice"]).0, 0);
}

#[test]
fn equal_recordings_give_one_line() {
    let sides = Sides::of(&served(5, 100), &served(5, 100));
    let (_, printed, _) = sides.compared(&[]);
    let expected =
        "rows: 1 unchanged; findings: 1 unchanged (2.0 s before, 2.0 s after)\n".to_owned();
    assert_eq!(printed, expected);
}

#[test]
fn lifetimes_are_compared() {
    let sides = Sides::of(&served(0, 100), &served(0, 800));
    let (code, printed, _) = sides.compared(&["--fail-on", "warning"]);
    // A longer lifetime is neither better nor worse.
    assert_eq!(code, 0, "{printed}");
    let line = printed.lines().find(|line| line.contains("lifetime p50 us")).expect(&printed);
    assert!(line.ends_with("  more"), "{printed}");
    assert!(printed.contains("rows: 1 otherwise changed"), "{printed}");
}

#[test]
fn filters_select_the_connections_of_recordings() {
    let sides = Sides::of(&served(0, 100), &served(5, 100));
    assert!(sides.compared(&["-P", "8080", "--role", "server"]).1.contains("findings: 1 new"));
    for other in [&["-P", "8081"][..], &["--role", "client"], &["--remote", "203.0.113.0/24"]] {
        let (_, printed, _) = sides.compared(other);
        assert_eq!(printed, "rows: none (2.0 s before, 2.0 s after)\n", "{other:?}");
        let exit = sides.compared(&[other, &["--fail-on", "notice"]].concat());
        assert_eq!(exit.0, 4, "{other:?}");
    }
    // A report has no connections to select, and no findings.
    let report = sides.run(&["report", "-o", "json", "--from", "before"]).1;
    fs::write(sides.path().join("before"), report).expect("a file");
    let (code, _, why) = sides.compared(&["-P", "8080"]);
    assert_eq!(code, 2, "{why}");
    assert!(why.contains("cannot filter before") && why.contains("remedy: "), "{why}");
    let (code, printed, _) = sides.compared(&["-o", "json"]);
    let compared: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!((code, &compared["findings"]), (0, &Value::Null));
}
