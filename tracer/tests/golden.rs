//! The command line, by replay of a recording made here: what every command prints, in every form,
//! and what it says and how it exits when something is wrong. `UPDATE_GOLDEN=1` writes the files
//! in `golden/` anew.

mod wire;

use std::{
    fs,
    io::{self, Read, Write},
    net::SocketAddr,
    os::{
        fd::IntoRawFd,
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use nix::{
    pty::{Winsize, openpty},
    unistd::geteuid,
};
use synfin::{
    input::{
        ClockAnchor, Closing, Counters, Input, Opening, Reset, ResetWay, Session, SockId, Tick,
        Transition, WalkBegin, WalkEnd, WalkedSocket, WalkedTimeWait,
    },
    recording::{Frame, MAGIC, Recorder},
};
use synfin_common::{
    event::{Flags, Kind},
    state::TcpState::{self, *},
};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_synfin");

const FORMS: [(&str, &str); 3] = [("table", "txt"), ("json", "json"), ("csv", "csv")];

#[test]
fn reports_are_as_ever() {
    in_every_form("report", &["report"]);
    golden("report-wide.txt", &["report", "--wide"]);
    golden("report-no-header.txt", &["report", "-H"]);
    golden("report-no-header.csv", &["report", "-H", "-o", "csv"]);
}

#[test]
fn reports_at_intervals_are_as_ever() {
    in_every_form("report-intervals", &["report", "1"]);
    golden("report-count.txt", &["report", "500ms", "2"]);
    golden("top.txt", &["top"]);
    golden("top.txt", &[]);
}

#[test]
fn transitions_are_as_ever() {
    in_every_form("trace", &["trace"]);
    golden("trace-wide.txt", &["trace", "-w"]);
    golden("trace-no-header.txt", &["trace", "-H"]);
}

#[test]
fn connections_are_as_ever() {
    in_every_form("connections", &["connections"]);
    golden("connections-wide.txt", &["connections", "-w"]);
    golden("connections-no-header.txt", &["connections", "-H"]);
    in_every_form("connections-open", &["connections", "--open"]);
    in_every_form("connections-slow", &["connections", "--slow", "100ms"]);
}

#[test]
fn words_are_explained() {
    let explained = |name: &str, words: &[&str]| {
        let output = synfin(&[&["explain"], words].concat());
        assert_ends(&output, 0, "");
        compare(name, &stdout(&output));
    };
    explained("explain.txt", &[]);
    explained("explain-reason.txt", &["reset_by_us_unread_data"]);
    explained("explain-figure.txt", &["HS99"]);
    explained("explain-figures.txt", &["owner"]);
    explained("explain-state.txt", &["fin-wait-2"]);
    explained("explain.json", &["closed_by_us", "TW", "FIN_WAIT1", "-o", "json"]);
    for words in [["hs99", "Fin_Wait_2"], ["handshake.clean.p99_us", "FIN-WAIT2"]] {
        let apart = ["explain-figure.txt", "explain-state.txt"].map(golden_file);
        let output = synfin(&["explain", words[0], words[1]]);
        assert_eq!(stdout(&output), apart.join("\n"));
    }
}

#[test]
fn all_words_are_explained_to_scripts() {
    let output = synfin(&["explain", "-o", "json"]);
    assert_ends(&output, 0, "");
    for line in stdout(&output).lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = ["id", "key", "name"].iter().find_map(|name| entry[name].as_str()).unwrap();
        let alone = stdout(&synfin(&["explain", name, "-o", "json"]));
        assert!(alone.lines().any(|other| other == line), "{name}: {alone}");
        assert!(entry["meaning"].as_str().unwrap().ends_with('.'), "{line}");
    }
}

#[test]
fn words_that_mean_nothing_are_refused() {
    let refused = |words: &[&str], why: &str| {
        let output = synfin(&[&["explain"], words].concat());
        assert_ends(&output, 2, why);
        assert_eq!(stdout(&output), "");
    };
    refused(&["hs98"], "nothing here is called \"hs98\"");
    refused(&["hs98"], "did you mean HS90, HS99 or HS?");
    refused(&["resetbypear"], "did you mean reset_by_peer, reset_by_peer_closing or");
    refused(&["unread_data"], "did you mean reset_by_us_unread_data");
    refused(&["TW", "xyzzy"], "remedy: `synfin explain` lists all that is");
    refused(&[""], "called \"\"");
    refused(&["\x1b[2J\nTW"], "called \"\\u{1b}[2J\\nTW\"");
}

#[test]
fn shells_can_complete_the_command_line() {
    for (shell, begins) in [("bash", "_synfin()"), ("zsh", "#compdef synfin"), ("fish", "# ")] {
        let output = synfin(&["completions", shell]);
        assert_ends(&output, 0, "");
        assert!(stdout(&output).starts_with(begins), "{shell}");
        assert!(stdout(&output).contains("connections"), "{shell}");
    }
    assert_ends(&synfin(&["completions", "cmd"]), 2, "invalid value 'cmd'");
}

#[test]
fn losses_are_shown() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &story_with_losses());
    for (form, extension) in [("table", "txt"), ("json", "json")] {
        let output = synfin(&["report", "--from", &file, "-o", form]);
        assert_ends(&output, 0, "");
        compare(&format!("losses.{extension}"), &stdout(&output));
    }
}

#[test]
fn help_is_as_ever() {
    compare("help.txt", &stdout(&synfin(&["--help"])));
    let commands =
        ["top", "report", "trace", "connections", "record", "doctor", "explain", "completions"];
    for command in commands {
        let output = synfin(&[command, "--help"]);
        assert_ends(&output, 0, "");
        compare(&format!("help-{command}.txt"), &stdout(&output));
    }
}

#[test]
fn reading_needs_no_root() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &story());
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_ends(&as_nobody(&["report", "--from", &file]).output().unwrap(), 0, "");
}

#[test]
fn what_is_no_recording_is_refused() {
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
    refused(b"synfin\0\x63", "this recording has format 99, and this synfin reads format 2");
    refused(&MAGIC, "does not begin with a session");
    refused(&recorded(&story()[1..]), "does not begin with a session");
    // Its first frame is damaged, or cut.
    let mut damaged = recorded(&story());
    damaged[MAGIC.len() + 20] ^= 1;
    refused(&damaged, "is damaged at byte 8: the checksum is wrong");
    refused(&recorded(&story())[..MAGIC.len() + 20], "is cut off at byte 8");
    refused(&[&MAGIC[..], &[0xff; 64]].concat(), "a frame cannot have");
}

#[test]
fn what_was_read_before_damage_is_reported() {
    let dir = TempDir::new().unwrap();
    let whole = story();
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
            ["can be read only in part", &why, "what is printed above comes from the part before"];
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
    refused("/", "Is a directory", "give the file itself");
    refused("/dev/null", "this is not a synfin recording", "that `synfin record` wrote");
    refused("/dev/zero", "this is not a synfin recording", "that `synfin record` wrote");
}

#[test]
fn a_recording_of_others_is_not_read() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &story());
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
fn hostile_arguments_are_spelled_out() {
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
fn help_that_nobody_reads_is_no_error() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    assert_ends(&call(&["--help"]).stdout(writer).output().unwrap(), 0, "");
}

#[test]
fn output_that_finds_no_room_is_explained() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &story());
    for command in COMMANDS {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = call(&[*command, &["--from", &file]].concat()).stdout(full).output().unwrap();
        assert_explains(&output, 3, &["cannot write the output", "No space left on device"]);
    }
}

#[test]
fn a_small_terminal_is_refused_and_the_way_out_named() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &story());
    for (width, height) in [(39, 24), (80, 7), (1, 1)] {
        let (shown, output) = on_a_screen(&["top", "--from", &file], None, (width, height));
        let size = format!("it has {width}×{height} characters, and 40×8 are the least");
        assert_explains(&output, 3, &["terminal is too small", &size, "`synfin report 1`"]);
        assert_eq!(shown, "");
        // What does not stay in its place fits anywhere.
        let (_, output) = on_a_screen(&["report", "1", "--from", &file], None, (width, height));
        assert_ends(&output, 0, "");
        let (_, output) =
            on_a_screen(&["top", "-o", "json", "--from", &file], None, (width, height));
        assert_ends(&output, 0, "");
    }
}

#[test]
fn a_table_in_place_fits_its_terminal() {
    let dir = TempDir::new().unwrap();
    for frames in [story(), story_with_losses()] {
        let file = recording(&dir, &frames);
        for (width, height) in [(40, 8), (60, 9), (80, 24), (100, 10), (200, 50)] {
            let (shown, output) = on_a_screen(&["top", "--from", &file], None, (width, height));
            assert_ends(&output, 0, "");
            for screen in shown.split("\x1b[H\x1b[J").skip(1) {
                let text = ["\x1b[1m", "\x1b[31m", "\x1b[0m"]
                    .iter()
                    .fold(screen.to_owned(), |text, control| text.replace(control, ""));
                let lines: Vec<_> = text.lines().collect();
                assert!(lines.len() < usize::from(height), "{width}x{height}: it scrolls:\n{text}");
                for line in lines {
                    let taken = line.chars().count();
                    assert!(taken <= usize::from(width), "{width}x{height}: it wraps:\n{text}");
                }
                let has_all = text.lines().any(|line| line.ends_with(" WHY"));
                assert_eq!(text.contains(" not fit: enlarge"), !has_all, "{text}");
                assert!(
                    has_all || width < 80,
                    "at 80 characters there is room for the reason:\n{text}"
                );
            }
        }
    }
}

#[test]
fn wrong_usage_is_explained() {
    let wrong = |args: &[&str], why: &str| assert_ends(&synfin(args), 2, why);
    wrong(&["reprot"], "unrecognized subcommand 'reprot'");
    wrong(&["report", "soon"], "invalid value 'soon'");
    wrong(&["report", "0"], "must be more than zero");
    wrong(&["report", "1", "0"], "invalid value '0'");
    wrong(&["report", "--once", "1"], "cannot be used with");
    wrong(&["report", "--once", "--from", "file"], "cannot be used with");
    wrong(&["report", "--from", "file", "--record", "other"], "cannot be used with");
    wrong(&["report", "--from", "file", "--", "true"], "cannot be used with");
    wrong(&["trace", "-o", "xml"], "possible values: table, json, csv");
    wrong(&["connections", "--open", "--slow", "1s"], "cannot be used with");
    wrong(&["record"], "<FILE>");
    wrong(&["record", "file", "--ring-size", "3M"], "must be a power of two");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &story());
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
fn messages_that_nobody_reads_are_no_error() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let output = call(&["trace", "--from", "/no/such/recording"]).stderr(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_recording_steers_no_terminal() {
    let dir = TempDir::new().unwrap();
    let mut frames = story();
    if let Frame::Session(session) = &mut frames[0] {
        session.limitations = vec!["\x1b[2Jall is well".into()];
    }
    let output = synfin(&["report", "--from", &recording(&dir, &frames)]);
    assert_ends(&output, 0, "\\u{1b}[2Jall is well");
}

#[test]
fn what_is_not_a_terminal_gets_no_controls() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &story());
    for command in COMMANDS {
        let output = synfin(&[*command, &["--from", &file, "-w"]].concat());
        assert_no_controls(&stdout(&output));
    }
}

#[test]
fn a_terminal_gets_colours_unless_it_wants_none() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &story_with_losses());
    // The top of the screen is another matter, and no connection ends in this story.
    let commands = [&["report"][..], &["report", "1"], &["trace"], &["connections", "--open"]];
    for command in commands {
        let args = [command, &["--from", &file]].concat();
        let shown = on_a_terminal(&args, None);
        assert!(shown.contains("\x1b[1m"), "{command:?}: the heading is not bold: {shown:?}");
        let text = ["\x1b[1m", "\x1b[31m", "\x1b[0m"]
            .iter()
            .fold(shown.clone(), |text, control| text.replace(control, ""));
        assert_no_controls(&text);
        assert_eq!(on_a_terminal(&args, Some("")), shown, "an empty NO_COLOR says nothing");
        assert_no_controls(&on_a_terminal(&args, Some("1")));
    }
    let report = on_a_terminal(&["report", "--from", &file], None);
    assert!(report.contains("\x1b[31mevents: "), "losses are not red: {report:?}");
}

#[test]
fn hostile_names_are_spelled_out() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &story());
    for command in [&["report"][..], &["trace"], &["connections"]] {
        let shown = stdout(&synfin(&[command, &["--from", &file]].concat()));
        assert!(shown.contains("\\u{1b}[2J\\nroot \\u{7f}"), "{command:?}: {shown}");
    }
}

/// Everything that writes tables.
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

/// Compares what a command prints of the story with a golden file.
fn golden(name: &str, args: &[&str]) {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, &story());
    let output = synfin(&[args, &["--from", &file]].concat());
    assert_ends(&output, 0, "");
    compare(name, &stdout(&output));
}

fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn golden_file(name: &str) -> String {
    fs::read_to_string(golden_path(name)).unwrap_or_default()
}

fn compare(name: &str, text: &str) {
    let path = golden_path(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        return fs::write(path, text).unwrap();
    }
    let expected = golden_file(name);
    let differing = text.lines().zip(expected.lines()).position(|(new, old)| new != old);
    assert!(
        text == expected,
        "{name} differs from line {} on (UPDATE_GOLDEN=1 accepts it):\n{text}",
        differing.unwrap_or(text.lines().count().min(expected.lines().count())) + 1,
    );
}

fn call(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).env_remove("NO_COLOR").env_remove("COLUMNS").stdin(Stdio::null());
    command
}

fn synfin(args: &[&str]) -> Output {
    call(args).output().unwrap()
}

/// A call by somebody who may do nothing special.
fn as_nobody(args: &[&str]) -> Command {
    const NOBODY: u32 = 65_534;
    // Nobody may run the program, but perhaps not find it where it was built.
    let program = fs::File::open(PROGRAM).unwrap().into_raw_fd();
    let mut command = Command::new(format!("/proc/self/fd/{program}"));
    command.args(args).stdin(Stdio::null());
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// What a terminal of 200 columns and 50 lines is given, its line ends as they were.
fn on_a_terminal(args: &[&str], no_color: Option<&str>) -> String {
    let (shown, output) = on_a_screen(args, no_color, (200, 50));
    assert_ends(&output, 0, "");
    shown
}

/// What a terminal of so many columns and lines is given, its line ends as they were.
fn on_a_screen(
    args: &[&str],
    no_color: Option<&str>,
    (ws_col, ws_row): (u16, u16),
) -> (String, Output) {
    let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).unwrap();
    let mut command = call(args);
    command.stdout(terminal.slave).stderr(Stdio::piped());
    if let Some(value) = no_color {
        command.env("NO_COLOR", value);
    }
    let child = command.spawn().unwrap();
    // It holds our copy of the terminal's other end, whose last copy's end is the end of input.
    drop(command);
    let mut shown = Vec::new();
    let mut terminal = fs::File::from(terminal.master);
    let mut chunk = [0; 4096];
    while let Ok(len @ 1..) = terminal.read(&mut chunk) {
        shown.extend(&chunk[..len]);
    }
    let shown = String::from_utf8(shown).unwrap().replace("\r\n", "\n");
    (shown, child.wait_with_output().unwrap())
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Exactly with this status; and a message, if it is to say anything.
fn assert_ends(output: &Output, status: i32, message: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    let as_expected = if message.is_empty() { stderr.is_empty() } else { stderr.contains(message) };
    assert!(as_expected, "it said {stderr:?}, not {message:?}");
}

/// With this status, and says what, why and what to do about it; these parts are in it.
fn assert_explains(output: &Output, status: i32, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    for part in ["synfin: ", "\n  why: ", "\n  remedy: "].iter().chain(parts) {
        assert!(stderr.contains(part), "it said {stderr:?}, not {part:?}");
    }
}

fn assert_no_controls(text: &str) {
    let control = text.chars().find(|&character| character.is_control() && character != '\n');
    assert_eq!(control, None, "{text:?}");
}

fn recorded(frames: &[Frame]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut recorder = Recorder::new(&mut file).unwrap();
    frames.iter().for_each(|frame| recorder.write(frame).unwrap());
    file
}

fn recording(dir: &TempDir, frames: &[Frame]) -> String {
    let path: &Path = &dir.path().join("recording");
    fs::File::create(path).unwrap().write_all(&recorded(frames)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Three seconds of a web server's life.
fn story() -> Vec<Frame> {
    let mut tape = Tape::begin();
    let nginx = Sock::new(1, "0.0.0.0:443", "0.0.0.0:0");
    let ssh = Sock::new(2, "192.0.2.10:22", "198.51.100.5:50022");
    let gone = Sock::new(3, "192.0.2.10:443", "198.51.100.6:50443");
    tape.walk(&[
        Input::Socket(nginx.met_in(Listen, Some((2, 511)))),
        Input::Socket(ssh.met_in(Established, None)),
        Input::TimeWait(WalkedTimeWait {
            fin_wait2: false,
            port_by_connect: Some(false),
            local: gone.local,
            remote: gone.remote,
            remaining_ms: 41_500,
        }),
    ]);
    tape.tick_at(20);

    // A server starts, gets a clean connection, and one over IPv6 whose SYN-ACK was lost once.
    let api = Sock::new(4, "[::]:8080", "[::]:0");
    tape.at(100).birth(api, (Close, Listen), Some((700, b"api")));
    let clean = Sock::new(5, "192.0.2.10:8080", "198.51.100.7:40001");
    tape.at(200).birth(clean, (Listen, SynRecv), None);
    tape.at(200).established(clean, SynRecv, 1_234, 0, Flags(0));
    tape.at(350).step(clean, (Established, CloseWait));
    tape.at(351).step(clean, (CloseWait, LastAck));
    tape.at(360).end(clean, LastAck, |end| {
        end.flags = ORPHAN.with(Flags::FIN_RECEIVED);
        end.closing = Some(Closing { idle_ms: Some(9), ..closing(4_097, 301) });
    });
    let resent = Sock::new(6, "[2001:db8::10]:8080", "[2001:db8::7]:40002");
    tape.at(400).birth(resent, (Listen, SynRecv), None);
    tape.at(400).established(resent, SynRecv, 1_056_113, 1, Flags::SINCE_FIRST_SYNACK);
    tape.tick_at(500);

    // Clients: one that all goes well with, refused ones, one that waits in vain.
    let curl = Sock::new(7, "192.0.2.10:33001", "203.0.113.80:443");
    tape.at(600).birth(curl, (Close, SynSent), Some((801, b"curl")));
    tape.at(631).established(curl, SynSent, 30_338, 0, Flags(0));
    tape.at(900).step(curl, (Established, FinWait1));
    tape.at(930).step(curl, (FinWait1, FinWait2));
    tape.at(931).end(curl, FinWait2, |end| {
        end.flags = ORPHAN.with(Flags::FIN_RECEIVED);
        end.closing = Some(Closing { idle_ms: Some(1), ..closing(518, 15_001) });
    });
    for (number, local, ms) in [(8, "192.0.2.10:33002", 940), (9, "192.0.2.10:33003", 950)] {
        let refused = Sock::new(number, local, "203.0.113.54:5432");
        tape.at(ms).birth(refused, (Close, SynSent), Some((802, b"worker")));
        tape.at(ms + 2).reset(refused);
        tape.at(ms + 2).end(refused, SynSent, |end| end.err = ECONNREFUSED);
    }
    let waiting = Sock::new(10, "192.0.2.10:33004", "203.0.113.99:25");
    tape.at(960).birth(waiting, (Close, SynSent), Some((803, b"mailer")));
    tape.tick_at(1_000);

    // What can be in a process name, and a connection that it resets.
    let hostile = Sock::new(11, "192.0.2.10:33005", "203.0.113.80:8443");
    tape.at(1_100).birth(hostile, (Close, SynSent), Some((666, b"\x1b[2J\nroot \x7f\xff")));
    tape.tick_at(1_500);
    tape.tick_at(2_000);
    tape.at(2_151).established(hostile, SynSent, 30_000, 1, Flags(0));
    tape.at(2_200).end(hostile, Established, |end| {
        end.flags = Flags::HAS_SOCKET.with(SHUT).with(Flags::LINGER0);
        end.closing = Some(Closing { idle_ms: Some(49), ..closing(1, 0) });
    });
    tape.at(2_300).end(resent, Established, |end| {
        end.flags = Flags::HAS_SOCKET;
        end.err = ECONNRESET;
        end.closing = Some(Closing { idle_ms: Some(1_200), ..closing(100, 40) });
    });
    tape.at(2_400).end(waiting, SynSent, |end| end.err = ETIMEDOUT);
    tape.tick_at(2_500);

    // One that stays, one that was there before, and the server's end.
    let idle = Sock::new(12, "[2001:db8::10]:33006", "[2001:db8::80]:443");
    tape.at(2_600).birth(idle, (Close, SynSent), Some((801, b"curl")));
    tape.at(2_612).established(idle, SynSent, 11_900, 0, Flags(0));
    tape.at(2_700).step(ssh, (Established, CloseWait));
    tape.at(2_900).end(api, Listen, |_| {});
    tape.tick_at(3_000);
    tape.frames
}

/// A second of a trace whose ring was too small.
fn story_with_losses() -> Vec<Frame> {
    let mut tape = Tape::begin();
    tape.walk(&[]);
    let seen = Sock::new(1, "192.0.2.10:33001", "203.0.113.80:443");
    tape.at(100).birth(seen, (Close, SynSent), Some((801, b"curl")));
    tape.at(130).established(seen, SynSent, 30_338, 0, Flags(0));
    // Of this one, only the middle came through.
    let half_seen = Sock::new(2, "192.0.2.10:33002", "203.0.113.80:443");
    tape.lost(Kind::Opening);
    tape.at(200).step(half_seen, (Established, CloseWait));
    tape.lost(Kind::Step);
    tape.lost(Kind::Closing);
    tape.counters.missed = 1;
    tape.tick_at(1_000);
    tape.frames
}

const SHUT: Flags = Flags::SHUT_READ.with(Flags::SHUT_WRITE);
const ORPHAN: Flags = SHUT.with(Flags::DEAD);

const ECONNRESET: u8 = 104;
const ETIMEDOUT: u8 = 110;
const ECONNREFUSED: u8 = 111;

const NETNS: u32 = 4_026_531_840;

/// A recording in the making.
struct Tape {
    frames: Vec<Frame>,
    /// Records since the last tick.
    records: Vec<Input>,
    counters: Counters,
    now: u64,
}

impl Tape {
    const BEGIN: u64 = 1_000_000_000_000;

    fn begin() -> Self {
        let session = Session {
            synfin: "0.1.0".into(),
            host: "web-1".into(),
            kernel: "6.12.0-test".into(),
            // 2026-01-02T03:04:05Z
            clock: ClockAnchor {
                monotonic_ns: Self::BEGIN,
                realtime_ns: 1_767_323_045_000_000_000,
            },
            hooks: vec!["inet_sock_set_state".into(), "tcp_send_reset".into()],
            shown: vec!["resets".into()],
            limitations: Vec::new(),
            ring_bytes: 1 << 24,
            sysctls: [("net.ipv4.tcp_tw_reuse".into(), "2".into())].into(),
            ..Session::default()
        };
        let frames = vec![Frame::Session(Box::new(session))];
        let counters = Counters::default();
        Self { frames, records: Vec::new(), counters, now: Self::BEGIN }
    }

    /// Milliseconds since the beginning.
    fn at(&mut self, ms: u64) -> &mut Self {
        self.now = Self::BEGIN + ms * 1_000_000;
        self
    }

    fn tick_at(&mut self, ms: u64) {
        self.at(ms).hand_over();
        self.frames.push(Frame::Tick(Tick {
            time: self.now,
            counters: self.counters.clone(),
            ports: Vec::new(),
        }));
    }

    fn hand_over(&mut self) {
        if !self.records.is_empty() {
            self.frames.push(Frame::Events(wire::batch(&self.records).into()));
            self.records.clear();
        }
    }

    fn walk(&mut self, findings: &[Input]) {
        self.hand_over();
        let (netns, begun) = (NETNS, self.now);
        self.frames.extend([
            Frame::WalkBegin(WalkBegin { netns, time: begun }),
            Frame::Walked(wire::findings(findings).into()),
            Frame::WalkEnd(WalkEnd {
                netns,
                begun,
                ended: begun + 2_000_000,
                error: None,
                ephemeral_ports: None,
                counters: None,
            }),
        ]);
    }

    fn write(&mut self, kind: Kind, record: Input) {
        self.counters.seen[kind as usize] += 1;
        self.records.push(record);
    }

    fn lost(&mut self, kind: Kind) {
        self.counters.seen[kind as usize] += 1;
        self.counters.lost[kind as usize] += 1;
    }

    fn birth(&mut self, sock: Sock, states: (TcpState, TcpState), owner: Option<(u32, &[u8])>) {
        let mut birth = sock.goes(self.now, states);
        if birth.new == SynSent {
            birth.local.set_port(0);
        }
        birth.pid = owner.map(|(pid, _)| pid);
        birth.flags = if owner.is_some() { birth.flags.with(Flags::BY_OWNER) } else { birth.flags };
        let accept_queue = if birth.old == Listen { (3, 128) } else { (0, 0) };
        let comm = owner.map_or(Vec::new(), |(_, name)| name.to_vec());
        birth.opening = Some(Opening { cgroup: 1, accept_queue, comm });
        self.write(Kind::Opening, Input::Transition(birth));
    }

    fn step(&mut self, sock: Sock, states: (TcpState, TcpState)) {
        self.write(Kind::Step, Input::Transition(sock.goes(self.now, states)));
    }

    fn established(&mut self, sock: Sock, old: TcpState, rtt_us: u32, resent: u32, flags: Flags) {
        let step = sock.goes(self.now, (old, Established));
        let flags = step.flags.with(flags);
        let step = Transition { rtt_us, total_retransmits: resent, flags, ..step };
        self.write(Kind::Step, Input::Transition(step));
    }

    fn reset(&mut self, sock: Sock) {
        let reset = Reset { time: self.now, sock: sock.id, way: ResetWay::Received };
        self.write(Kind::ResetReceived, Input::Reset(reset));
    }

    fn end(&mut self, sock: Sock, old: TcpState, evidence: impl FnOnce(&mut Transition)) {
        let mut end = sock.goes(self.now, (old, Close));
        end.closing = Some(closing(0, 0));
        evidence(&mut end);
        end.flags = end.flags.with(sock.family());
        self.write(Kind::Closing, Input::Transition(end));
    }
}

fn closing(bytes_acked: u64, bytes_received: u64) -> Closing {
    Closing { bytes_acked, bytes_received, unread: 0, idle_ms: None }
}

#[derive(Clone, Copy)]
struct Sock {
    id: SockId,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Sock {
    fn new(number: u64, local: &str, remote: &str) -> Self {
        let id = 0xffff_8880_0000_0000 + number * 0x1000;
        Self { id, local: local.parse().unwrap(), remote: remote.parse().unwrap() }
    }

    fn family(self) -> Flags {
        if self.local.is_ipv6() { Flags::IPV6 } else { Flags(0) }
    }

    fn goes(self, time: u64, (old, new): (TcpState, TcpState)) -> Transition {
        Transition {
            time,
            sock: self.id,
            netns: NETNS,
            old,
            new,
            local: self.local,
            remote: self.remote,
            flags: self.family(),
            err: 0,
            err_soft: 0,
            pid: None,
            rtt_us: 0,
            retransmits: 0,
            probes: 0,
            total_retransmits: 0,
            opening: None,
            closing: None,
        }
    }

    fn met_in(self, state: TcpState, accept_queue: Option<(u32, u32)>) -> WalkedSocket {
        WalkedSocket {
            time: Tape::BEGIN + 1_000_000,
            sock: self.id,
            state,
            local: self.local,
            remote: self.remote,
            flags: self.family(),
            port_by_connect: Some(false),
            retransmits: 0,
            rtt_us: 0,
            accept_queue: accept_queue.unwrap_or_default(),
            drops: 0,
            idle_ms: None,
            cgroup: 1,
        }
    }
}
