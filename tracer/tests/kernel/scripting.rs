//! A load test in a script: `report --fail-on CONDITION -- COMMAND` with every exit status, and the end of
//! the command.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::ExitStatusExt as _,
    process::Command,
    time::{Duration, Instant},
};

use nix::libc::SIGKILL;

use crate::lab::{self, Broken, Finished, Namespace, PROGRAM, Synfin};

/// The first port of this file's tests.
const PORT: u16 = 7481;

/// No listener.
const CLOSED: u16 = PORT + 1;

#[test]
fn a_load_test_exits_with_each_documented_code() {
    let _lab = lab::enter();
    let namespace = Namespace::new();
    let listener = namespace.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
    let tried_in = |namespace: &Namespace, condition: &str, load: &str| {
        let netns = namespace.id().to_string();
        let args = ["report", "-N", &netns, "--fail-on", condition, "--", "bash", "-c", load];
        let finished = namespace.within(|| Synfin::run(args));
        (finished.code, finished.stderr)
    };
    let tried = |condition: &str, load: &str| tried_in(&namespace, condition, load);
    let connects = |port: u16| format!("exec 3<>/dev/tcp/127.0.0.1/{port}");

    let (code, printed) = tried("failed>0", &connects(PORT));
    assert_eq!(code, 0, "{printed}");
    let slow = format!("client:{PORT}.handshake.clean.p99_us>0");
    let (code, printed) = tried(&slow, &connects(PORT));
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains(&slow), "{printed}");
    let (code, printed) = tried("failures.connect_refused_rst>0", &connects(CLOSED));
    assert_eq!(code, 1, "{printed}");
    let (code, printed) = tried("bad>0", &(connects(CLOSED) + "; exit 7"));
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("--fail-on 'bad>0': the value is 1"), "{printed}");
    let (code, printed) = tried("gremlins>0", &connects(PORT));
    assert_eq!(code, 2, "{printed}");
    let (code, printed) = tried_in(&Namespace::new(), "failed>0", "true");
    assert_eq!(code, 4, "{printed}");
    let (code, printed) = tried("failed>0", &(connects(PORT) + "; exit 7"));
    assert_eq!(code, 7, "{printed}");
    let (code, printed) = tried("established>0", &(connects(PORT) + "; exit 7"));
    assert_eq!(code, 1, "{printed}");
    let (code, printed) = tried_in(&Namespace::new(), "failed>0", "kill -TERM $$");
    assert_eq!(code, 128 + 15, "{printed}");
    let broken = Broken::not().without_capabilities(&["bpf", "sys_admin"]);
    assert_eq!(broken.run(&["report", "--fail-on", "failed>0", "--", "true"]).code, 3);
    drop(listener);
}

#[test]
fn the_reader_has_a_priority_that_the_command_does_not_inherit() {
    let _lab = lab::enter();
    let (folder, recording) = lab::recording_file();
    let nice = folder.path().join("nice").display().to_string();
    let namespace = Namespace::new().id().to_string();
    // Field 19 is the nice value of the main thread.
    let command = format!("cut -d' ' -f19 /proc/$PPID/stat /proc/$$/stat > {nice}");
    let finished =
        Synfin::run(["record", "-N", &namespace, &recording, "--", "sh", "-c", &command]);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(fs::read_to_string(nice).expect("the values"), "-15\n0\n");
}

/// `cli/exit_status.rs` has the statuses of reading recordings, of wrong usage and of missing privileges.
#[test]
fn commands_that_trace_exit_with_their_documented_code() {
    let _lab = lab::enter();
    let (silent, busy) = (Namespace::new(), Namespace::new());
    let [silent, busy_id] = [&silent, &busy].map(|namespace| namespace.id().to_string());
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT + 2));
    let listener = busy.listen(at);
    let _client = busy.connect(at).expect("a connection");
    let _server = listener.accept().expect("the connection");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let taken = taken.local_addr().expect("its address").to_string();
    let (_folder, recording) = lab::recording_file();
    let brief = ["--for", "0.3"];
    let calls: &[(&[&str], i32)] = &[
        (&["top"], 0),
        (&["trace"], 0),
        (&["connections"], 0),
        (&["report"], 0),
        (&["record", &recording], 0),
        (&["record", &recording], 2),
        (&["record", "/no/such/directory/file"], 2),
        (&["record", "/dev/full"], 3),
        (&["serve", "--listen", "127.0.0.1:0"], 0),
        (&["serve", "--listen", &taken], 3),
        (&["diagnose", "-N", &busy_id, "--fail-on", "warning"], 0),
        (&["diagnose", "-N", &silent, "--fail-on", "warning"], 4),
        (&["report", "-N", &busy_id, "--fail-on", "open>0"], 1),
        (&["report", "-N", &silent, "--fail-on", "open>0"], 4),
        (&["report", "-N", "no-such-namespace"], 2),
    ];
    let wrong = calls.iter().filter_map(|&(args, expected)| {
        let finished = Synfin::run(args.iter().chain(&brief));
        let Finished { code, stderr, .. } = &finished;
        (*code != expected).then(|| format!("{args:?}: {code}, not {expected}: {stderr}"))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A command would keep synfin's output open, and this test waiting, until it ends by itself.
#[test]
fn a_command_ends_with_the_run() {
    const LONG: Duration = Duration::from_mins(10);
    let _lab = lab::enter();
    let begun = Instant::now();
    let sleep = format!("exec sleep {}", LONG.as_secs());
    let ended = |args: &[&str], load: &str, code: i32, says: &str| {
        let finished = Synfin::run(args.iter().chain(&["--", "sh", "-c", load]));
        assert_eq!(finished.code, code, "{args:?} {load}: {}", finished.stderr);
        assert!(finished.stderr.contains(says), "{args:?} {load}: {}", finished.stderr);
    };
    let time = format!("{}s", lab::slowed(Duration::from_secs(1)).as_secs());
    for args in [
        &["report", "--for", &time][..],
        &["report", &time, "1"],
        &["diagnose", "--for", &time],
        &["record", "/dev/null", "--for", &time],
    ] {
        ended(args, &sleep, 124, "sending it SIGTERM");
    }
    ended(&["report"], &format!("kill -INT $PPID; {sleep}"), 128 + 2, "sending it SIGTERM");
    let ignores = format!("trap '' TERM; kill -TERM $PPID; {sleep}");
    ended(&["connections"], &ignores, 128 + 15, "sending it SIGKILL");

    let killed = format!("kill -KILL $PPID; {sleep}");
    let output = Command::new(PROGRAM).args(["report", "--", "sh", "-c", &killed]).output();
    assert_eq!(output.expect("synfin").status.signal(), Some(SIGKILL));
    assert!(begun.elapsed() < LONG, "a command ended by itself");
}
