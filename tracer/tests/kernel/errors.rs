//! Hosts with one fault each: synfin's errors name the cause and the remedy.

use std::{
    fs,
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::lab::{self, BTF, Broken, Feature, Finished, Namespace, PROGRAM, Report, Synfin};

/// The first port of this file's tests.
const PORT: u16 = 7401;

const ONCE: &[&str] = &["report", "--once", "-o", "json"];

/// Checks that synfin works there without a warning.
#[track_caller]
fn assert_works(broken: &Broken) {
    let finished = broken.run(ONCE);
    finished.report();
    assert_eq!(finished.stderr, "");
}

#[test]
fn a_missing_capability_is_named() {
    let _lab = lab::enter();
    let cases: [(&[&str], &str); 3] = [
        (&["bpf", "sys_admin"], "without CAP_BPF\n"),
        (&["perfmon", "sys_admin"], "without CAP_PERFMON\n"),
        (&["bpf", "perfmon", "sys_admin"], "without CAP_BPF and CAP_PERFMON\n"),
    ];
    for (dropped, named) in cases {
        let finished = Broken::not().without_capabilities(dropped).run(ONCE);
        finished.check_explained(3, &[named, "root lacks", "--cap-add", "AmbientCapabilities"]);
        assert_eq!(finished.stdout, "");
    }
    // CAP_SYS_ADMIN includes both.
    assert_works(&Broken::not().without_capabilities(&["bpf"]));
    assert_works(&Broken::not().without_capabilities(&["perfmon"]));
}

#[test]
fn missing_privileges_of_a_user_are_named() {
    let _lab = lab::enter();
    let finished = Broken::not().for_nobody().run(ONCE);
    finished.check_explained(3, &["without CAP_BPF and CAP_PERFMON", "not root", "sudo", "setcap"]);
    let finished = Broken::not().in_a_user_namespace().run(ONCE);
    finished.check_explained(3, &["user namespace", "rootless"]);
}

#[test]
fn without_cap_sys_admin_only_the_own_namespace_is_scanned() {
    let _lab = lab::enter();
    let namespace = Namespace::new();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let listener = namespace.listen(address);
    let pair = namespace.pair_with(&listener, address);
    let broken = Broken::not().without_capabilities(&["sys_admin", "sys_ptrace"]);
    let finished = namespace.within(|| broken.run(ONCE));
    assert_eq!(finished.report().row("server", PORT).count("open"), 1);
    for right in ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"] {
        assert!(finished.stderr.contains(&format!("synfin: no {right}: ")), "{}", finished.stderr);
    }
    drop(pair);
}

#[test]
fn missing_btf_is_named() {
    let _lab = lab::enter();
    let finished = Broken::not().without_btf().without_capabilities(&["sys_admin"]).run(ONCE);
    finished
        .check_explained(3, &["(BTF) is missing", BTF, "CONFIG_DEBUG_INFO_BTF=y", "with --btf"]);
    let finished = Broken::not().with_btf(b"no types at all").run(ONCE);
    finished.check_explained(3, &["not BTF"]);
    // A required field and the main tracepoint have other names.
    let finished = Broken::not().with_swapped_names("srtt_us", "srtt_xx").run(ONCE);
    finished.check_explained(3, &["lacks tcp_sock.srtt_us"]);
    let tracepoint = "btf_trace_inet_sock_set_state";
    let broken = Broken::not().with_swapped_names(tracepoint, "btf_trace_inet_sock_set_stat_");
    if lab::since(7, 0) {
        // In that case the hook is attached to the tracepoint's event.
        return assert_works(&broken);
    }
    broken.run(ONCE).check_explained(3, &["the tracepoint inet_sock_set_state is missing"]);
}

fn once_with(broken: &Broken, types: &str) -> Finished {
    broken.run(&[ONCE, &["--btf", types]].concat())
}

#[test]
fn btf_hidden_in_sysfs_is_read_by_bpf() {
    let _lab = lab::enter();
    if lab::lacks(Feature::TypesByBpf) {
        return;
    }
    let hidden = Broken::not().without_btf();
    assert_works(&hidden);
    let finished = hidden.run(&["doctor", "--for", "0.1"]);
    let line = finished.stdout.lines().find(|line| line.starts_with("ok      btf "));
    assert!(line.is_some_and(|line| line.contains("by bpf(2)")), "{}", finished.stdout);
}

#[test]
fn a_copy_of_this_kernels_btf_is_accepted() {
    let _lab = lab::enter();
    let copy = |broken: &Broken| {
        let file = broken.file("types");
        fs::copy(BTF, &file).expect("a copy");
        file
    };
    let hidden = Broken::not().without_btf();
    let file = copy(&hidden);
    if !lab::lacks_for_a_part(Feature::TypesByBpf) {
        let finished = once_with(&hidden, &file);
        finished.report();
        assert_eq!(finished.stderr, "");
    }

    // Without bpf(2), only the size of the kernel's BTF is known.
    let hidden = Broken::not().without_btf().without_capabilities(&["sys_admin"]);
    let file = copy(&hidden);
    let finished = once_with(&hidden, &file);
    finished.report();
    let warning = format!("synfin: {file} is exactly as large as ");
    assert!(finished.stderr.contains(&warning), "{}", finished.stderr);

    // Without even the size, the file is refused.
    let hidden = Broken::not().without_btf().without_capabilities(&["sys_admin", "syslog"]);
    let finished = once_with(&hidden, &copy(&hidden));
    finished.check_explained(3, &["cannot verify", "CAP_SYSLOG"]);
}

#[test]
fn btf_of_another_kernel_is_refused() {
    let _lab = lab::enter();
    let own = fs::read(BTF).expect("the kernel's type information");
    let broken = Broken::not();
    let refused = |broken: &Broken, types: &[u8], why: &str| {
        let file = broken.file("types");
        fs::write(&file, types).expect("a file");
        let finished = once_with(broken, &file);
        finished.check_explained(2, &[&file, why, "of exactly this kernel"]);
        let finished = broken.run(&["doctor", "--for", "0.1", "--btf", &file]);
        assert_eq!(finished.code, 3, "{}", finished.stderr);
        assert!(finished.stdout.contains("missing btf "), "{}", finished.stdout);
    };
    // A larger one, and one with other names.
    let mut larger = own.clone();
    larger.push(0);
    let mut other = own.clone();
    *other.last_mut().expect("a byte") ^= 1;
    refused(&broken, &larger, "not this kernel's: its BTF has");
    refused(&broken, &other, "different contents");
    // It is refused even if only the size is known.
    let hidden = Broken::not().without_btf().without_capabilities(&["sys_admin"]);
    refused(&hidden, &larger, "not this kernel's: its BTF has");
}

#[test]
fn a_file_without_btf_is_refused() {
    let _lab = lab::enter();
    let broken = Broken::not();
    let refused = |file: &str, why: &str| {
        let finished = once_with(&broken, file);
        finished.check_explained(2, &["(BTF) from ", file, why]);
    };
    let own = fs::read(BTF).expect("the kernel's type information");
    let file = broken.file("types");
    for (types, why) in [
        (&b""[..], "it is empty"),
        (b"no types at all", "not BTF"),
        (&own[..own.len() / 2], "cut short"),
        (b"\x7fELF and no more", "is an ELF file"),
    ] {
        fs::write(&file, types).expect("a file");
        refused(&file, why);
    }
    refused(PROGRAM, "ELF without a section .BTF");
    refused("/dev/zero", "larger than the type information of any kernel");
    refused(&broken.file(""), "Is a directory");
    refused(&broken.file("missing"), "No such file or directory");
}

/// Swaps fields so that the program reads where the verifier does not allow it.
fn with_a_rejected_program() -> Broken {
    Broken::not().with_swapped_names("sk_shutdown", "sk_destruct")
}

#[test]
fn a_verifier_rejection_is_shown() {
    let _lab = lab::enter();
    let finished = with_a_rejected_program().run(ONCE);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let verifier = format!("the verifier of Linux {}", release.trim());
    finished.check_explained(3, &[&verifier, "(-v shows all)", "\n    processed "]);
    let brief = finished.stderr.lines().count();
    let finished = with_a_rejected_program().run(&[ONCE, &["-v"]].concat());
    finished.check_explained(3, &[&verifier, "the kernel's log:\n"]);
    assert!(finished.stderr.lines().count() > brief, "{}", finished.stderr);
}

#[test]
fn lockdown_is_named_as_the_cause() {
    let _lab = lab::enter();
    let locked = with_a_rejected_program().with_lockdown("none integrity [confidentiality]");
    locked
        .run(ONCE)
        .check_explained(3, &["locked down", "`confidentiality`", "lockdown=integrity"]);
    assert_works(&Broken::not().with_lockdown("none [integrity] confidentiality"));
}

#[test]
fn a_missing_optional_hook_is_only_a_warning() {
    let _lab = lab::enter();
    let hook = "btf_trace_tcp_receive_reset";
    let broken = Broken::not()
        .with_swapped_names(hook, "btf_trace_tcp_receive_reset".replace("reset", "resxx").as_str());
    let finished = broken.run(ONCE);
    finished.report();
    assert!(finished.stderr.contains("no hook on tcp_receive_reset: "), "{}", finished.stderr);
}

#[test]
fn without_tracefs_only_hooks_that_can_be_preempted_are_missing() {
    let _lab = lab::enter();
    let broken =
        Broken::not().by("umount -l /sys/kernel/tracing; umount -l /sys/kernel/debug 2>&- || true");
    if !lab::since(7, 0) {
        assert_works(&broken);
    }
    let finished = broken.run(&[ONCE, &["--by-event"]].concat());
    finished.report();
    let printed = "no hook on the event sock:inet_sock_set_state: the kernel can preempt the hook";
    assert!(finished.stderr.contains(printed), "{}", finished.stderr);
}

#[test]
fn losses_in_a_tiny_ring_are_reported_with_a_sufficient_size() {
    let _lab = lab::enter_alone();
    let namespace = Namespace::new();
    let listener = listener(&namespace);
    let synfin = Synfin::watch(["report", "-o", "json", "--ring-size", "4K"]);
    some_connections(&namespace, &listener, lab::scaled(3000, 1000));
    let finished = synfin.finish();
    let report = finished.report();
    let (lost, seen) = (report.event("lost"), report.event("seen"));
    assert!(lost > 0, "a ring of 4 KiB must lose records");
    let printed = format!(
        "{lost} of {seen} events were lost because a ring buffer was full (--ring-size 4K): --ring-size "
    );
    let (_, size) =
        finished.stderr.split_once(&printed).unwrap_or_else(|| panic!("{}", finished.stderr));
    let size = size.split_whitespace().next().expect("a size").to_owned();

    let synfin = Synfin::watch(["report", "-o", "json", "--ring-size", &size]);
    some_connections(&namespace, &listener, lab::scaled(3000, 1000));
    let finished = synfin.finish();
    assert_eq!(finished.report().event("lost"), 0, "--ring-size {size}");
    assert!(!finished.stderr.contains("lost"), "{}", finished.stderr);
}

/// A listener shared by all runs, because its port cannot be bound again at once.
fn listener(namespace: &Namespace) -> TcpListener {
    namespace.listen((Ipv4Addr::LOCALHOST, PORT + 10))
}

fn some_connections(namespace: &Namespace, listener: &TcpListener, count: usize) {
    for _ in 0..count {
        namespace.pair_with(listener, (Ipv4Addr::LOCALHOST, PORT + 10)).close_by_client();
    }
}

#[test]
fn a_full_disk_loses_only_the_rest_of_the_recording() {
    // Scans of other tests' sockets would fill the disk.
    let _lab = lab::enter_alone();
    let namespace = Namespace::new();
    let listener = listener(&namespace);
    // With pauses, the frames are small.
    fill_a_disk("256k", || {
        some_connections(&namespace, &listener, 10);
        thread::sleep(Duration::from_millis(20));
    });
}

/// Records a repeated `load` to a disk of this size until it is full. Only the rest of the
/// recording is missing then. Returns the report.
#[track_caller]
pub(crate) fn fill_a_disk(size: &str, load: impl Fn() + Send) -> Report {
    let broken = Broken::not();
    let (disk, kept) = (broken.file("disk"), broken.file("kept"));
    fs::create_dir(&disk).expect("a directory");
    let broken = broken.by(&format!("mount -t tmpfs -o size={size} none {disk}"));
    // The disk is visible in the command's mount namespace only.
    let script = format!("\"$@\"; code=$?; cp {disk}/recording {kept}; exit $code");
    let recording = format!("{disk}/recording");
    let mut command = broken.command(&["report", "-o", "json", "--record", &recording]);
    command = through_a_shell(command, &script);

    let synfin = Synfin::watch_command(&mut command);
    let (end, ended) = mpsc::channel();
    let finished = thread::scope(|scope| {
        scope.spawn(move || {
            while let Err(mpsc::TryRecvError::Empty) = ended.try_recv() {
                load();
            }
        });
        let finished = synfin.end();
        end.send(()).expect("a listener");
        finished
    });
    finished.check_explained(
        3,
        &[
            &format!("cannot continue the recording {recording}"),
            "No space left on device",
            "free space",
            "can be read with --from",
        ],
    );
    let report_in = |stdout: &str| {
        let line = stdout.lines().last().expect("the final report");
        serde_json::from_str::<serde_json::Value>(line).expect("JSON")
    };
    let report = Report::new(report_in(&finished.stdout)).complete();
    assert!(report.event("delivered") > 0);

    let (_, rest) = finished.stderr.split_once(" (").expect("the part that can be read");
    let bytes: u64 = rest.split(' ').next().expect("a number").parse().expect("a number");
    let replayed = Synfin::run(["report", "-o", "json", "--from", &kept]);
    let part = format!("cut off at byte {bytes}");
    replayed.check_explained(2, &["can be read only in part", &part]);
    // Records may be in flight at the end of the recording.
    let early = &report_in(&replayed.stdout)["events"];
    let delivered = early["delivered"].as_u64();
    assert!(delivered > Some(0) && delivered <= Some(report.event("delivered")), "{early:#}");
    report
}

/// Runs a command as `"$@"` of a script within its mount namespace.
pub(crate) fn through_a_shell(command: Command, script: &str) -> Command {
    let mut words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    // Its arguments are: unshare --mount sh -c SCRIPT sh PROGRAM ARGS.
    let program = words.iter().rposition(|word| word == "sh").expect("a shell") + 1;
    for (at, word) in ["sh", "-c", script, "sh"].into_iter().enumerate() {
        words.insert(program + at, word.into());
    }
    let mut command = Command::new(command.get_program());
    command.args(words);
    command
}

#[test]
fn a_recording_that_cannot_be_created_is_explained() {
    let _lab = lab::enter();
    let folder = tempfile::tempdir().expect("a directory");
    let folder = folder.path().to_str().expect("a UTF-8 path");
    let missing = format!("{folder}/missing/recording");
    for (path, why, remedy) in [
        (missing.as_str(), "No such file or directory", "create its directory first"),
        (folder, "Is a directory", "specify a file in it"),
    ] {
        let finished = Synfin::run(["report", "--for", "0.1", "--record", path]);
        finished.check_explained(2, &["cannot write the recording", path, why, remedy]);
        Synfin::run(["record", path]).check_explained(2, &[why, remedy]);
    }
    let existing = format!("{folder}/existing");
    for record in [&["record"][..], &["report", "--record"], &["diagnose", "--record"]] {
        fs::write(&existing, "precious").expect("a file");
        let record = [record, &[&existing, "--for", "0.1"]].concat();
        Synfin::run(&record).check_explained(2, &["File exists", "--force"]);
        assert_eq!(fs::read(&existing).expect("the file"), b"precious");
        assert_eq!(Synfin::run(record.iter().chain(&["--force"])).code, 0);
        assert_ne!(fs::read(&existing).expect("the file"), b"precious");
    }
    let finished = Synfin::run(["record", "--for", "0.1", "/dev/full"]);
    finished.check_explained(3, &["No space left on device", "none of it is readable"]);
}

#[test]
fn an_existing_recording_is_kept_if_tracing_cannot_start() {
    let _lab = lab::enter();
    let broken = Broken::not().without_capabilities(&["bpf", "sys_admin"]);
    let file = broken.file("recording");
    fs::write(&file, "what was there before").expect("a file");
    broken.run(&["record", &file]).check_explained(3, &["without CAP_BPF"]);
    assert_eq!(fs::read_to_string(&file).expect("the file"), "what was there before");
}

#[test]
fn a_command_that_cannot_be_run_is_explained() {
    let _lab = lab::enter();
    let finished = Synfin::run(["report", "--", "/no/such/command"]);
    finished.check_explained(127, &["cannot run /no/such/command", "No such file", "PATH"]);
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("a UTF-8 path");
    let finished = Synfin::run(["record", "/dev/null", "--", path]);
    finished.check_explained(126, &["cannot run ", path, "Permission denied", "chmod"]);
}

#[test]
fn a_closed_pipe_ends_a_live_run_without_an_error() {
    let _lab = lab::enter();
    let namespace = Namespace::new();
    let listener = listener(&namespace);
    for args in [&["trace"][..], &["connections"], &["report", "0.2"], &["top"]] {
        let (reader, writer) = io::pipe().expect("a pipe");
        let mut child = Command::new(PROGRAM)
            .args(args)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .expect("synfin");
        drop(reader);
        let status = lab::eventually(&format!("{args:?} ends"), || {
            some_connections(&namespace, &listener, 1);
            child.try_wait().expect("its status")
        });
        let mut printed = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut printed).expect("text");
        assert_eq!(status.code(), Some(0), "{args:?}: {printed}");
        let other = printed.lines().find(|line| !line.starts_with(lab::WATCHING));
        assert_eq!(other, None, "{args:?}");
    }
}
