//! The exit status of every command in each situation that needs no root, beside its message that other
//! tests check. `kernel/scripting.rs` has those of commands that trace.

use std::{
    collections::BTreeSet,
    fs, io,
    process::{Command, Stdio},
};

use clap::CommandFactory;
use synfin::{cli::Cli, trace::recording::Frame};
use synfin_testkit::{
    RecordedKernel, recorded,
    sample::{web_server, web_server_with_losses},
};
use tempfile::TempDir;

use self::How::{AsNobody, Plainly, ToAClosedPipe, ToAFullDisk};
use crate::{compare::served, output::as_nobody};

/// How synfin is called.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Plainly,
    ToAFullDisk,
    ToAClosedPipe,
    /// By a user who may not trace.
    AsNobody,
}

/// Calls with their exit status. `{NAME}` is a file of [`Files`].
const CALLS: &[(How, &str, i32)] = &[
    (Plainly, "--help", 0),
    (Plainly, "--version", 0),
    (ToAClosedPipe, "--help", 0),
    (Plainly, "gremlins", 2),
    //
    (Plainly, "top --from {good}", 0),
    (ToAClosedPipe, "top --from {good}", 0),
    (Plainly, "top --by gremlins", 2),
    (Plainly, "top --from {missing}", 2),
    (Plainly, "top --from {cut}", 2),
    (ToAFullDisk, "top --from {good}", 3),
    (AsNobody, "top", 3),
    //
    (Plainly, "report --from {good}", 0),
    (ToAClosedPipe, "report --from {good}", 0),
    (Plainly, "report --from {good} --fail-on bad>100", 0),
    (Plainly, "report --from {good} --fail-on bad>0", 1),
    (Plainly, "report --from {losses} --fail-on established>0", 1),
    (Plainly, "report 0", 2),
    (Plainly, "report --from {good} --fail-on gremlins>0", 2),
    (Plainly, "report --from {missing} --fail-on bad>0", 2),
    (Plainly, "report --from {cut} --fail-on bad>0", 2),
    (ToAFullDisk, "report --from {good}", 3),
    (AsNobody, "report --fail-on bad>0", 3),
    (Plainly, "report --from {silent} --fail-on bad>0", 4),
    (Plainly, "report --from {losses} --fail-on bad>0", 4),
    (Plainly, "report --from {good} --fail-on client:81.bad>0", 4),
    //
    (Plainly, "trace --from {good}", 0),
    (ToAClosedPipe, "trace --from {good}", 0),
    (Plainly, "trace --state gremlins", 2),
    (Plainly, "trace --from {cut}", 2),
    (ToAFullDisk, "trace --from {good}", 3),
    (AsNobody, "trace", 3),
    //
    (Plainly, "connections --from {good}", 0),
    (Plainly, "connections --open --from {silent}", 0),
    (ToAClosedPipe, "connections --from {good}", 0),
    (Plainly, "connections --reason gremlins", 2),
    (Plainly, "connections --from {cut}", 2),
    (ToAFullDisk, "connections --from {good}", 3),
    (AsNobody, "connections", 3),
    //
    (Plainly, "record", 2),
    (Plainly, "record {new} --ring-size 3M", 2),
    (Plainly, "record {new} --anonymize --key-file {missing}", 2),
    (AsNobody, "record /dev/null", 3),
    //
    (Plainly, "serve --listen gremlins", 2),
    (AsNobody, "serve --listen 127.0.0.1:0", 3),
    //
    (Plainly, "anonymize --force {good} {new}", 0),
    (Plainly, "anonymize {good}", 2),
    (Plainly, "anonymize {good} {good}", 2),
    (Plainly, "anonymize {missing} {new}", 2),
    (Plainly, "anonymize --force {cut} {new}", 2),
    (Plainly, "anonymize {good} /dev/full", 3),
    //
    (Plainly, "doctor -o gremlins", 2),
    (AsNobody, "doctor", 3),
    //
    (Plainly, "diagnose --from {finding}", 0),
    (ToAClosedPipe, "diagnose --from {finding}", 0),
    (Plainly, "diagnose --from {finding} --fail-on critical", 0),
    (Plainly, "diagnose --from {healthy} --fail-on notice", 0),
    (Plainly, "diagnose --from {finding} --fail-on warning", 1),
    (Plainly, "diagnose --fail-on gremlins", 2),
    (Plainly, "diagnose --from {cut} --fail-on warning", 2),
    (ToAFullDisk, "diagnose --from {finding} --fail-on warning", 3),
    (AsNobody, "diagnose --fail-on warning", 3),
    (Plainly, "diagnose --from {silent} --fail-on warning", 4),
    (Plainly, "diagnose --from {losses} --fail-on warning", 4),
    //
    (Plainly, "compare {healthy} {finding}", 0),
    (ToAClosedPipe, "compare {healthy} {finding}", 0),
    (Plainly, "compare {finding} {healthy} --fail-on notice", 0),
    (Plainly, "compare {finding} {finding} --fail-on notice", 0),
    (Plainly, "compare {healthy} {finding} --fail-on warning", 1),
    (Plainly, "compare {good}", 2),
    (Plainly, "compare {good} {missing}", 2),
    (Plainly, "compare {cut} {good} --fail-on warning", 2),
    (Plainly, "compare {good} {good} --fail-on gremlins", 2),
    (ToAFullDisk, "compare {healthy} {finding} --fail-on warning", 3),
    (Plainly, "compare {silent} {good} --fail-on notice", 4),
    (Plainly, "compare {good} {losses} --fail-on notice", 4),
    //
    (Plainly, "explain TW", 0),
    (ToAClosedPipe, "explain", 0),
    (Plainly, "explain gremlins", 2),
    (ToAFullDisk, "explain TW", 3),
    //
    (Plainly, "completions bash", 0),
    (ToAClosedPipe, "completions bash", 0),
    (Plainly, "completions gremlins", 2),
    (ToAFullDisk, "completions bash", 3),
    //
    (Plainly, "man {new}.pages", 0),
    (Plainly, "man {new} {new}", 2),
    (Plainly, "man /dev/null/pages", 3),
];

/// Commands that trace this host and read no recordings, so that they succeed as root only.
const FOR_ROOT: [&str; 3] = ["record", "serve", "doctor"];

/// The recordings by the names in [`CALLS`]; `new` is not there yet, and `missing` never is.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: TempDir::new().expect("a directory") };
        let mut silent = RecordedKernel::begin();
        silent.tick_at(1_000);
        let good = web_server();
        let write = |name: &str, bytes: &[u8]| fs::write(files.path(name), bytes).expect("a file");
        let record = |name: &str, frames: &[Frame]| write(name, &recorded(frames));
        record("good", &good);
        record("healthy", &served(0, 100));
        record("finding", &served(5, 100));
        record("silent", &silent.into_frames());
        record("losses", &web_server_with_losses());
        let whole = recorded(&good);
        write("cut", &whole[..whole.len() - 1]);
        files
    }

    fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.into_os_string().into_string().expect("a UTF-8 path")
    }

    /// The arguments of a call.
    fn args(&self, call: &str) -> Vec<String> {
        let folder = self.path("");
        call.split(' ').map(|word| word.replace('{', &folder).replace('}', "")).collect()
    }
}

fn called(how: How, args: &[String]) -> i32 {
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let mut command = match how {
        AsNobody => as_nobody(&args),
        _ => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_synfin"));
            command.args(&args).stdin(Stdio::null());
            command
        }
    };
    match how {
        ToAFullDisk => {
            let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
            command.stdout(full);
        }
        ToAClosedPipe => {
            let (reader, writer) = io::pipe().expect("a pipe");
            drop(reader);
            command.stdout(writer);
        }
        Plainly | AsNobody => {}
    }
    command.output().expect("synfin").status.code().expect("an exit status")
}

#[test]
fn every_call_has_its_exit_status() {
    let files = Files::new();
    let wrong = CALLS.iter().filter_map(|&(how, call, expected)| {
        let status = called(how, &files.args(call));
        (status != expected).then(|| format!("{how:?}: {call}: {status}, not {expected}"))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_command_is_called_in_each_situation() {
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        let has_condition = command.get_arguments().any(|arg| arg.get_long() == Some("fail-on"));
        let mut expected = BTreeSet::from([2, 3]);
        expected.extend((!FOR_ROOT.contains(&name)).then_some(0));
        expected.extend(has_condition.then_some([1, 4]).into_iter().flatten());
        let calls = CALLS.iter().filter(|(_, call, _)| call.split(' ').next() == Some(name));
        let tried: BTreeSet<_> = calls.map(|&(.., status)| status).collect();
        assert_eq!(tried, expected, "{name}");
    }
}
