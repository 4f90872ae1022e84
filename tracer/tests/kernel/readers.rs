//! Readers of synfin's output that stop reading, and the signals that end synfin meanwhile.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read},
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::{SigHandler, Signal, signal},
};

use crate::{
    burst::burst,
    lab::{self, Namespace, PROGRAM, Process, Synfin, WATCHING},
};

/// The first port of this file's tests.
const PORT: u16 = 7_461;

/// A synfin whose stdout is a small pipe.
struct Paged {
    child: Child,
    output: BufReader<PipeReader>,
}

impl Paged {
    /// Starts it with stderr in the same pipe, as in `synfin … 2>&1 | less`, and reads until it traces
    /// everything.
    fn watch(args: &[&str]) -> Self {
        let mut paged = Self::start(args, |pipe| pipe.try_clone().expect("a descriptor").into());
        let mut line = String::new();
        while !line.starts_with(WATCHING) {
            line.clear();
            assert!(paged.output.read_line(&mut line).expect("text") > 0, "synfin has ended");
        }
        paged
    }

    /// Starts it with stderr in a file, and waits until it traces everything.
    fn watch_with_messages_in(file: &Path, args: &[&str]) -> Self {
        let paged = Self::start(args, |_| File::create(file).expect("a file").into());
        lab::eventually("it traces everything", || {
            fs::read_to_string(file).expect("text").contains(WATCHING).then_some(())
        });
        paged
    }

    fn start(args: &[&str], stderr: impl FnOnce(&PipeWriter) -> Stdio) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        fcntl(&reader, FcntlArg::F_SETPIPE_SZ(4_096)).expect("a small pipe");
        let mut command = Command::new(PROGRAM);
        command.args(args).stderr(stderr(&writer)).stdout(writer);
        // SAFETY: after the fork it only makes system calls.
        unsafe { command.pre_exec(hear_hangups) };
        // Only the child has the writing end afterwards.
        let child = command.spawn().expect("synfin");
        Self { child, output: BufReader::with_capacity(1, reader) }
    }

    fn signal(&self, signal: Signal) {
        Process(self.child.id()).signal(signal);
    }

    /// Waits until it has ended.
    fn ended(&mut self) -> ExitStatus {
        lab::eventually("synfin ends", || self.child.try_wait().expect("its status"))
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_none()
    }
}

impl Drop for Paged {
    fn drop(&mut self) {
        // Still running only if the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Who runs the tests may ignore hangups (`nohup`).
fn hear_hangups() -> io::Result<()> {
    // SAFETY: the default action needs no handler.
    unsafe { signal(Signal::SIGHUP, SigHandler::SigDfl) }?;
    Ok(())
}

/// More than the pipe, and than what waits for a reader, has room for.
const CONNECTIONS: u64 = 20_000;

#[test]
fn a_reader_that_stops_delays_neither_the_trace_nor_its_end() {
    let _lab = lab::enter_alone();
    let namespace = Namespace::new();
    let (_folder, recording) = lab::recording_file();
    let id = lab::ids([&namespace]);
    let mut synfin = Paged::watch(&["trace", "-o", "json", "-N", &id, "--record", &recording]);
    burst(&namespace, PORT, CONNECTIONS);
    namespace.wait_until_quiet();
    let begun = Instant::now();
    synfin.signal(Signal::SIGTERM);

    assert_eq!(synfin.ended().code(), Some(3));
    let took = begun.elapsed();
    assert!(took < lab::slowed(Duration::from_secs(10)), "{took:?}");
    let report = Synfin::run(["report", "-o", "json", "--from", &recording]).report();
    assert_eq!(report.event("lost"), 0);
    let closed = report.row("server", PORT).count("closed");
    assert!(closed.abs_diff(CONNECTIONS) <= report.missing(), "{closed} closed");
}

#[test]
fn lines_that_are_read_too_slowly_are_left_out_and_counted() {
    let _lab = lab::enter_alone();
    let namespace = Namespace::new();
    let id = lab::ids([&namespace]);
    let folder = tempfile::tempdir().expect("a directory");
    let messages = folder.path().join("messages");
    let args = ["trace", "-o", "json", "-N", &id];
    let mut synfin = Paged::watch_with_messages_in(&messages, &args);
    burst(&namespace, PORT + 1, CONNECTIONS);
    namespace.wait_until_quiet();
    synfin.signal(Signal::SIGINT);
    let mut printed = String::new();
    synfin.output.read_to_string(&mut printed).expect("text");

    assert_eq!(synfin.ended().code(), Some(0));
    let is_complete = |line: &str| serde_json::from_str::<serde_json::Value>(line).is_ok();
    assert!(printed.lines().all(is_complete), "a line is not complete");
    let messages = fs::read_to_string(messages).expect("text");
    let left_out = messages.lines().find_map(|message| {
        let rest = message.strip_prefix("synfin: ")?;
        rest.strip_suffix(" lines were left out, because the output was read too slowly")
    });
    let left_out: u64 = left_out.and_then(|count| count.parse().ok()).expect("the count");
    assert!(left_out > 0 && !printed.is_empty(), "{left_out} left out");
}

#[test]
fn a_second_signal_ends_synfin_while_it_waits_for_a_reader() {
    let _lab = lab::enter();
    let namespace = Namespace::new();
    let id = lab::ids([&namespace]);
    let mut synfin = Paged::watch(&["trace", "-o", "json", "-N", &id]);
    // Their lines are longer than what the pipe takes.
    burst(&namespace, PORT + 3, 100);
    synfin.signal(Signal::SIGINT);
    std::thread::sleep(lab::slowed(Duration::from_secs(1)));
    assert!(synfin.is_running(), "it does not wait for its reader");
    synfin.signal(Signal::SIGINT);
    assert_eq!(synfin.ended().code(), Some(128 + Signal::SIGINT as i32));
}

#[test]
fn a_hangup_ends_a_recording_unless_it_is_ignored() {
    let _lab = lab::enter();
    let namespace = Namespace::new();
    let listener = namespace.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT + 2)));
    let at = listener.local_addr().expect("its address");
    let (_folder, recording) = lab::recording_file();
    let id = lab::ids([&namespace]);
    let mut synfin = Paged::watch(&["record", "-N", &id, &recording]);
    namespace.pair_with(&listener, at).close_by_client();
    synfin.signal(Signal::SIGHUP);
    let mut printed = String::new();
    synfin.output.read_to_string(&mut printed).expect("text");
    assert_eq!(synfin.ended().code(), Some(0), "{printed}");
    let report = Synfin::run(["report", "-o", "json", "--from", &recording]).report();
    assert_eq!(report.row("server", PORT + 2).count("closed"), 1);

    let ignoring = format!("trap '' HUP; exec {PROGRAM} report -o json -N {id}");
    let synfin = Synfin::watch_command(Command::new("sh").args(["-c", &ignoring]));
    synfin.process().signal(Signal::SIGHUP);
    namespace.pair_with(&listener, at).close_by_client();
    assert_eq!(synfin.finish().report().row("server", PORT + 2).count("closed"), 1);
}
