//! The output of every command in every format, and the messages and exit status for errors.

use std::{
    fs,
    io::{self, Read},
    os::{
        fd::IntoRawFd,
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    process::{Command, Output, Stdio},
};

use nix::{
    pty::{Winsize, openpty},
    unistd::geteuid,
};
use synfin::trace::recording::{Frame, MAGIC};
use synfin_testkit::{
    recorded, recording,
    sample::{web_server, web_server_with_losses},
};
use tempfile::TempDir;

use crate::golden::{assert_golden, golden_path};

const PROGRAM: &str = env!("CARGO_BIN_EXE_synfin");

const FORMS: [(&str, &str); 3] = [("table", "txt"), ("json", "json"), ("csv", "csv")];

#[test]
fn reports_match_golden_files() {
    in_every_form("report", &["report"]);
    golden("report-wide.txt", &["report", "--wide"]);
    golden("report-no-header.txt", &["report", "-H"]);
    golden("report-no-header.csv", &["report", "-H", "-o", "csv"]);
}

#[test]
fn reports_at_intervals_match_golden_files() {
    in_every_form("report-intervals", &["report", "1"]);
    golden("report-count.txt", &["report", "500ms", "2"]);
    golden("top.txt", &["top"]);
    golden("top.txt", &[]);
}

#[test]
fn transitions_match_golden_files() {
    in_every_form("trace", &["trace"]);
    golden("trace-wide.txt", &["trace", "-w"]);
    golden("trace-no-header.txt", &["trace", "-H"]);
}

#[test]
fn connections_match_golden_files() {
    in_every_form("connections", &["connections"]);
    golden("connections-wide.txt", &["connections", "-w"]);
    golden("connections-no-header.txt", &["connections", "-H"]);
    in_every_form("connections-open", &["connections", "--open"]);
    in_every_form("connections-slow", &["connections", "--slow", "100ms"]);
}

#[test]
fn diagnoses_match_golden_files() {
    for (form, extension) in [("text", "txt"), ("json", "json")] {
        golden(&format!("diagnose.{extension}"), &["diagnose", "-n", "-o", form]);
    }
}

#[test]
fn comparisons_match_golden_files() {
    let dir = TempDir::new().unwrap();
    let after = recording(&dir, &web_server_with_losses());
    // A report gives the same result as its recording.
    let before = dir.path().join("before.json");
    let other = TempDir::new().unwrap();
    let report = synfin(&["report", "-o", "json", "--from", &recording(&other, &web_server())]);
    fs::write(&before, report.stdout).unwrap();
    let before = before.to_str().unwrap();
    for (form, extension) in [("text", "txt"), ("json", "json")] {
        let output = synfin(&["compare", before, &after, "-o", form]);
        assert_ends(&output, 0, "");
        assert_golden(&format!("compare.{extension}"), &stdout(&output));
    }
    let output = synfin(&["compare", "/dev/null", &after]);
    assert_explains(&output, 2, &["/dev/null"]);
}

#[test]
fn explanations_match_golden_files() {
    let explained = |name: &str, words: &[&str]| {
        let output = synfin(&[&["explain"], words].concat());
        assert_ends(&output, 0, "");
        assert_golden(name, &stdout(&output));
    };
    explained("explain.txt", &[]);
    explained("explain-reason.txt", &["reset_by_us_unread_data"]);
    explained("explain-figure.txt", &["HS99"]);
    explained("explain-figures.txt", &["owner"]);
    explained("explain-state.txt", &["fin-wait-2"]);
    explained("explain.json", &["closed_by_us", "TW", "FIN_WAIT1", "-o", "json"]);
    for words in [["hs99", "Fin_Wait_2"], ["handshake.clean.p99_us", "FIN-WAIT2"]] {
        let apart = ["explain-figure.txt", "explain-state.txt"]
            .map(|name| fs::read_to_string(golden_path(name)).unwrap());
        let output = synfin(&["explain", words[0], words[1]]);
        assert_eq!(stdout(&output), apart.join("\n"));
    }
}

#[test]
fn every_term_is_explained_as_json() {
    let output = synfin(&["explain", "-o", "json"]);
    assert_ends(&output, 0, "");
    for line in stdout(&output).lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = ["id", "key", "name"].iter().find_map(|name| entry[name].as_str()).unwrap();
        let alone = stdout(&synfin(&["explain", name, "-o", "json"]));
        assert!(alone.lines().any(|other| other == line), "{name}: {alone}");
        let meaning = entry["meaning"].as_str().unwrap();
        assert!(meaning.ends_with('.') || entry["is"] == "topic", "{line}");
    }
}

#[test]
fn unknown_terms_are_refused_with_suggestions() {
    let refused = |words: &[&str], why: &str| {
        let output = synfin(&[&["explain"], words].concat());
        assert_ends(&output, 2, why);
        assert_eq!(stdout(&output), "");
    };
    refused(&["hs98"], "there is no explanation of \"hs98\"");
    refused(&["hs98"], "did you mean HS99, HS90 or HS?");
    refused(&["resetbypear"], "did you mean reset_by_peer, reset_by_peer_closing or");
    refused(&["unread_dat"], "did you mean unread_data or reset_by_us_unread_data?");
    refused(&["TW", "xyzzy"], "remedy: `synfin explain` lists everything that it can explain");
    refused(&[""], "explanation of \"\"");
    refused(&["\x1b[2J\nTW"], "explanation of \"\\u{1b}[2J\\nTW\"");
}

#[test]
fn completions_are_printed_for_each_shell() {
    for (shell, begins) in [("bash", "_synfin()"), ("zsh", "#compdef synfin"), ("fish", "# ")] {
        let output = synfin(&["completions", shell]);
        assert_ends(&output, 0, "");
        assert!(stdout(&output).starts_with(begins), "{shell}");
        assert!(stdout(&output).contains("connections"), "{shell}");
    }
    assert_ends(&synfin(&["completions", "cmd"]), 2, "invalid value 'cmd'");
}

#[test]
fn losses_match_golden_files() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &web_server_with_losses());
    for (form, extension) in [("table", "txt"), ("json", "json")] {
        let output = synfin(&["report", "--from", &file, "-o", form]);
        assert_ends(&output, 0, "");
        assert_golden(&format!("losses.{extension}"), &stdout(&output));
    }
}

#[test]
fn reading_a_recording_needs_no_root() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &web_server());
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_ends(&as_nobody(&["report", "--from", &file]).output().unwrap(), 0, "");
}

#[test]
fn files_other_than_recordings_are_refused() {
    let dir = TempDir::new().unwrap();
    let refused = |bytes: &[u8], why: &str| {
        let path = dir.path().join("file");
        fs::write(&path, bytes).unwrap();
        let output = synfin(&["report", "--from", path.to_str().unwrap()]);
        assert_explains(&output, 2, &["cannot read the recording", why]);
        assert_eq!(stdout(&output), "");
    };
    refused(b"\x7fELF\x02\x01\x01", "this is not a synfin recording");
    refused(b"", "this is not a synfin recording");
    refused(b"synfin\0\x63", "this recording has format 99, but this synfin reads formats 2 and 3");
    refused(&MAGIC, "does not begin with a session");
    refused(&recorded(&web_server()[1..]), "does not begin with a session");
    // The first frame is damaged or cut off.
    let mut damaged = recorded(&web_server());
    damaged[MAGIC.len() + 20] ^= 1;
    refused(&damaged, "is damaged at byte 8: the checksum is wrong");
    refused(&recorded(&web_server())[..MAGIC.len() + 20], "is cut off at byte 8");
    refused(&[&MAGIC[..], &[0xff; 64]].concat(), "a frame cannot have");
}

#[test]
fn a_damaged_recording_is_reported_up_to_the_damage() {
    let dir = TempDir::new().unwrap();
    let whole = web_server();
    let (good, bad) = whole.split_at(whole.len() - 1);
    let offset = recorded(good).len();
    let expected = synfin(&["report", "--from", &recording(&dir, good)]).stdout;

    let mut cut_off = recorded(good);
    cut_off.extend(&recorded(bad)[MAGIC.len()..MAGIC.len() + 20]);
    let mut damaged = recorded(&whole);
    *damaged.last_mut().unwrap() ^= 1;
    for (file, what) in [(cut_off, "is cut off"), (damaged, "is damaged")] {
        let path = dir.path().join("file");
        fs::write(&path, file).unwrap();
        let output = synfin(&["report", "--from", path.to_str().unwrap()]);
        let why = format!("{what} at byte {offset}");
        let parts =
            ["can be read only in part", &why, "the output above is from the readable part"];
        assert_explains(&output, 2, &parts);
        assert_eq!(stdout(&output), String::from_utf8(expected.clone()).unwrap());
    }
}

#[test]
fn a_recording_that_cannot_be_opened_is_explained() {
    let refused = |path: &str, why: &str, remedy: &str| {
        let output = synfin(&["trace", "--from", path]);
        assert_explains(&output, 2, &["cannot read the recording", why, remedy]);
    };
    refused("/no/such/recording", "No such file", "check the path");
    refused("/", "a directory without a flight recorder's files", "specify a file, or a directory");
    refused("/dev/null", "this is not a synfin recording", "that `synfin record` wrote");
    refused("/dev/zero", "this is not a synfin recording", "that `synfin record` wrote");
}

#[test]
fn a_recording_without_read_permission_is_explained() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &web_server());
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    let output = as_nobody(&["report", "--from", &file]).output().unwrap();
    assert_explains(
        &output,
        2,
        &["cannot read the recording", "Permission denied", "as its owner"],
    );
}

#[test]
fn control_characters_in_arguments_are_escaped() {
    let bell = "\x07\x1b]0;owned\x07\u{9b}2J\u{202e}";
    let wrong = [
        vec![bell],
        vec!["report", bell],
        vec!["report", "--from", bell],
        vec!["trace", "-o", bell],
        vec!["record", "/no/such/dir", "--ring-size", bell],
    ];
    for args in wrong {
        let output = synfin(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_no_controls(&String::from_utf8(output.stderr).unwrap());
    }
}

#[test]
fn help_to_a_closed_stdout_is_not_an_error() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    assert_ends(&call(&["--help"]).stdout(writer).output().unwrap(), 0, "");
}

#[test]
fn a_full_disk_is_explained() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &web_server());
    for command in COMMANDS {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = call(&[*command, &["--from", &file]].concat()).stdout(full).output().unwrap();
        assert_explains(&output, 3, &["cannot write the output", "No space left on device"]);
    }
}

#[test]
fn usage_errors_are_explained() {
    let wrong = |args: &[&str], why: &str| assert_ends(&synfin(args), 2, why);
    wrong(&["reprot"], "unrecognized subcommand 'reprot'");
    wrong(&["report", "soon"], "invalid value 'soon'");
    wrong(&["report", "0"], "must be more than zero");
    wrong(&["report", "1", "0"], "invalid value '0'");
    wrong(&["report", "--once", "1"], "cannot be used with");
    wrong(&["report", "--once", "--from", "file"], "cannot be used with");
    let rate = ["report", "--once", "--fail-on", "client:80.new_per_s>1"];
    wrong(&rate, "a single look shows no rates");
    wrong(&["report", "--from", "file", "--record", "other"], "cannot be used with");
    wrong(&["report", "--from", "file", "--", "true"], "cannot be used with");
    wrong(&["trace", "-o", "xml"], "possible values: table, json, csv");
    wrong(&["connections", "--open", "--slow", "1s"], "cannot be used with");
    wrong(&["record"], "<FILE>");
    wrong(&["record", "file", "--ring-size", "3M"], "must be a power of two");
    wrong(&["record", "folder", "--max-size", "1000"], "must be at least 1M");
    wrong(&["record", "folder", "--keep", "0"], "must be more than zero");
    wrong(&["report", "--max-connections", "0"], "0 is not in 1..");
    wrong(&["report", "--max-connections", "many"], "invalid digit found in string");
}

#[test]
fn a_closed_stdout_is_not_an_error() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &web_server());
    for command in COMMANDS {
        for (form, _) in FORMS {
            let (reader, writer) = io::pipe().unwrap();
            drop(reader);
            let args = [*command, &["--from", &file, "-o", form]].concat();
            let output = call(&args).stdout(writer).output().unwrap();
            assert_ends(&output, 0, "");
        }
    }
    for args in [&["explain"][..], &["explain", "TW", "-o", "json"], &["completions", "bash"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        assert_ends(&call(args).stdout(writer).output().unwrap(), 0, "");
    }
}

#[test]
fn a_closed_stderr_is_not_an_error() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let output = call(&["trace", "--from", "/no/such/recording"]).stderr(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn control_characters_in_a_recording_are_escaped() {
    let dir = TempDir::new().unwrap();
    let mut frames = web_server();
    if let Frame::Session(session) = &mut frames[0] {
        session.limitations = vec!["\x1b[2Jall is well".into()];
    }
    let output = synfin(&["report", "--from", &recording(&dir, &frames)]);
    assert_ends(&output, 0, "\\u{1b}[2Jall is well");
}

#[test]
fn output_to_a_pipe_has_no_control_characters() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &web_server());
    for command in COMMANDS {
        let output = synfin(&[*command, &["--from", &file, "-w"]].concat());
        assert_no_controls(&stdout(&output));
    }
}

#[test]
fn a_terminal_gets_colours_unless_no_color_is_set() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &web_server_with_losses());
    // No connection closes in this recording.
    let commands = [&["report"][..], &["report", "1"], &["trace"], &["connections", "--open"]];
    for command in commands {
        let args = [command, &["--from", &file]].concat();
        let shown = on_a_terminal(&args, None);
        assert!(shown.contains("\x1b[1m"), "{command:?}: the heading is not bold: {shown:?}");
        let text = ["\x1b[1m", "\x1b[31m", "\x1b[0m"]
            .iter()
            .fold(shown.clone(), |text, control| text.replace(control, ""));
        assert_no_controls(&text);
        assert_eq!(on_a_terminal(&args, Some("")), shown, "an empty NO_COLOR has no effect");
        assert_no_controls(&on_a_terminal(&args, Some("1")));
    }
    let report = on_a_terminal(&["report", "--from", &file], None);
    assert!(report.contains("\x1b[31mevents: "), "losses are not red: {report:?}");
}

#[test]
fn control_characters_in_process_names_are_escaped() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &web_server());
    for command in [&["report"][..], &["trace"], &["connections"]] {
        let shown = stdout(&synfin(&[command, &["--from", &file]].concat()));
        assert!(shown.contains("\\u{1b}[2J\\nroot \\u{7f}"), "{command:?}: {shown}");
    }
}

/// The commands that print tables.
const COMMANDS: &[&[&str]] = &[
    &["report"],
    &["report", "1"],
    &["top"],
    &["trace"],
    &["connections"],
    &["connections", "--open"],
    &["connections", "--slow", "1us"],
];

fn in_every_form(name: &str, args: &[&str]) {
    for (form, extension) in FORMS {
        golden(&format!("{name}.{extension}"), &[args, &["-o", form]].concat());
    }
}

/// Compares a command's output for the recording with a golden file.
fn golden(name: &str, args: &[&str]) {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &web_server());
    let output = synfin(&[args, &["--from", &file]].concat());
    assert_ends(&output, 0, "");
    assert_golden(name, &stdout(&output));
}

fn call(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).env_remove("NO_COLOR").env_remove("COLUMNS").stdin(Stdio::null());
    command
}

fn synfin(args: &[&str]) -> Output {
    call(args).output().unwrap()
}

/// A call by the unprivileged user `nobody`.
pub(crate) fn as_nobody(args: &[&str]) -> Command {
    const NOBODY: u32 = 65_534;
    // The user may run the program, but perhaps not open the directory where it was built.
    let program = fs::File::open(PROGRAM).unwrap().into_raw_fd();
    let mut command = Command::new(format!("/proc/self/fd/{program}"));
    command.args(args).stdin(Stdio::null());
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// The output on a terminal of 200 columns and 50 lines, with its line ends.
fn on_a_terminal(args: &[&str], no_color: Option<&str>) -> String {
    let size = Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).unwrap();
    let mut command = call(args);
    command.stdout(terminal.slave).stderr(Stdio::piped());
    if let Some(value) = no_color {
        command.env("NO_COLOR", value);
    }
    let child = command.spawn().unwrap();
    // It holds our copy of the terminal's other side; input ends when the last copy is closed.
    drop(command);
    let mut shown = Vec::new();
    let mut terminal = fs::File::from(terminal.master);
    let mut chunk = [0; 4096];
    while let Ok(len @ 1..) = terminal.read(&mut chunk) {
        shown.extend(&chunk[..len]);
    }
    assert_ends(&child.wait_with_output().unwrap(), 0, "");
    String::from_utf8(shown).unwrap().replace("\r\n", "\n")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Asserts this exit status, and this message unless it is empty.
fn assert_ends(output: &Output, status: i32, message: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    let as_expected = if message.is_empty() { stderr.is_empty() } else { stderr.contains(message) };
    assert!(as_expected, "the message is {stderr:?}, not {message:?}");
}

/// Asserts this exit status, and an error with its cause and remedy that contains these parts.
fn assert_explains(output: &Output, status: i32, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    for part in ["synfin: ", "\n  why: ", "\n  remedy: "].iter().chain(parts) {
        assert!(stderr.contains(part), "{part:?} is missing in {stderr:?}");
    }
}

fn assert_no_controls(text: &str) {
    let control = text.chars().find(|&character| character.is_control() && character != '\n');
    assert_eq!(control, None, "{text:?}");
}
