//! Tests of the explanations for refused objects and hooks.

use aya_obj::VerifierLog;

use super::*;
use crate::host::privileges::{Release, SYS_ADMIN};

fn facts() -> Facts {
    Facts::unrestricted()
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

fn no_map(name: &str, error: i32) -> Refusal {
    let error = MapError::CreateError { name: name.into(), io_error: errno(error) };
    Refusal::Object { ring_bytes: 16 << 20, error: error.into() }
}

fn not_loaded(error: i32, log: &str) -> Refusal {
    let verifier_log = VerifierLog::new(log.into());
    let error = ProgramError::LoadError { io_error: errno(error), verifier_log };
    Refusal::Hook { tracepoint: "inet_sock_set_state", error }
}

/// Returns the complete message, and asserts that it has all three parts.
#[track_caller]
fn said(refusal: &Refusal, facts: &Facts) -> String {
    let failure = understood(refusal, facts);
    assert_eq!(failure.exit, crate::message::exit::Exit::CannotRun);
    assert!(failure.what.starts_with(CANNOT_TRACE), "{failure}");
    assert!(!failure.why.is_empty() && !failure.remedy.is_empty(), "{failure}");
    failure.lines(false).join("\n")
}

#[track_caller]
fn assert_says(refusal: &Refusal, facts: &Facts, parts: &[&str]) {
    let said = said(refusal, facts);
    for part in parts {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }
}

const EPERM: i32 = nix::libc::EPERM;
const EACCES: i32 = nix::libc::EACCES;
const EINVAL: i32 = nix::libc::EINVAL;
const ENOMEM: i32 = nix::libc::ENOMEM;

#[test]
fn the_missing_right_is_named_and_no_other() {
    let perfmon = facts().without(&[&PERFMON, &SYS_ADMIN]);
    assert_says(&not_loaded(EPERM, ""), &perfmon, &["without CAP_PERFMON\n", "--cap-add"]);
    let user = Facts { root: false, ..facts().without(&[&BPF, &PERFMON, &SYS_ADMIN]) };
    assert_says(
        &no_map("EVENT_COUNTS", EPERM),
        &user,
        &["CAP_BPF and CAP_PERFMON", "not root", "sudo"],
    );
    // CAP_SYS_ADMIN implies both capabilities.
    let admin = facts().without(&[&BPF, &PERFMON]);
    assert!(!said(&no_map("EVENT_COUNTS", EPERM), &admin).contains("without CAP_BPF"));
}

#[test]
fn restrictions_of_root_are_named() {
    let refusals = [no_map("EVENT_COUNTS", EPERM), not_loaded(EPERM, ""), not_loaded(EACCES, "")];
    let cases = [
        (Facts { in_user_namespace: true, ..facts() }, "user namespace"),
        (Facts { lockdown: Lockdown::Confidentiality, ..facts() }, "lockdown=integrity"),
        (Facts { seccomp: true, ..facts() }, "seccomp=unconfined"),
        (facts(), "SELinux"),
    ];
    for (facts, part) in cases {
        refusals.iter().for_each(|refusal| assert_says(refusal, &facts, &[part]));
    }
}

#[test]
fn old_kernels_are_named_with_what_they_lack() {
    let on = |major, minor| Facts {
        kernel: format!("{major}.{minor}.0-generic"),
        release: Some(Release(major, minor)),
        memlock: Some(65536),
        ..facts()
    };
    assert_says(
        &no_map("EVENTS", EINVAL),
        &on(5, 4),
        &["Linux 5.4.0-generic", "ring buffers", "boot Linux 5.10"],
    );
    assert_says(&not_loaded(EINVAL, "invalid"), &on(5, 8), &["too old", "boot Linux 5.10"]);
    assert_says(
        &no_map("EVENT_COUNTS", EPERM),
        &on(5, 10),
        &["RLIMIT_MEMLOCK is 64K", "ulimit -l unlimited"],
    );
    assert!(!said(&no_map("EVENT_COUNTS", EPERM), &on(5, 11)).contains("MEMLOCK"));
    let missing =
        BtfError::UnknownBtfTypeName { type_name: "btf_trace_inet_sock_set_state".into() };
    let missing = Refusal::Hook { tracepoint: "inet_sock_set_state", error: missing.into() };
    assert_says(&missing, &on(4, 15), &["too old"]);
    assert_says(
        &missing,
        &facts(),
        &["the tracepoint inet_sock_set_state is missing", "CONFIG_BPF_EVENTS"],
    );
}

#[test]
fn a_ring_without_memory_asks_for_a_smaller_one() {
    assert_says(
        &no_map("EVENTS", ENOMEM),
        &facts(),
        &["no memory for the ring buffer", "ring buffers of 16M", "--ring-size 4M"],
    );
}

#[test]
fn missing_types_and_fields_are_named() {
    let gone = Refusal::from(TypesError::Missing(io::ErrorKind::NotFound.into()));
    assert_says(&gone, &facts(), &["BTF", "CONFIG_DEBUG_INFO_BTF=y", BTF_FILE, "--btf"]);
    let closed = Refusal::from(TypesError::Missing(errno(EACCES)));
    assert_says(&closed, &facts(), &["cannot be read", "Permission denied"]);
    let fields = Refusal::from(TypesError::MissingFields(vec!["sock.sk_err", "tcp_sock.srtt_us"]));
    assert_says(&fields, &facts(), &["sock.sk_err, tcp_sock.srtt_us", "6.18.1-test"]);
}

#[test]
fn the_verifiers_last_words_are_shown_and_all_of_them_if_asked_for() {
    let log: String =
        (1..=40).map(|line| format!("{line}: (79) r1 = *(u64 *)(r6 +\x1b[2J)\n")).collect();
    let failure = understood(&not_loaded(EACCES, &log), &facts());
    let brief = failure.lines(false).join("\n");
    assert!(brief.contains("the verifier of Linux 6.18.1-test"), "{brief}");
    assert!(brief.contains("last 6 of 40 lines") && brief.contains("\n    40: "), "{brief}");
    assert!(!brief.contains("\n    34: "), "{brief}");
    let all = failure.lines(true).join("\n");
    assert!(all.contains("\n    1: ") && all.contains("\n    40: "), "{all}");
    assert!(!all.contains('\x1b'), "the log contains control characters");
    let locked = Facts { lockdown: Lockdown::Confidentiality, ..facts() };
    assert_says(
        &not_loaded(EINVAL, "unknown func bpf_probe_read_kernel#113\n"),
        &locked,
        &["locked down", "unknown func"],
    );
}

#[test]
fn unknown_errors_are_reported_verbatim() {
    let unknown = Refusal::Object { ring_bytes: 4096, error: EbpfError::NoBTF };
    assert_says(&unknown, &facts(), &["no BTF parsed for object", "synfin doctor"]);
    let other = explain(Refusal::Other(anyhow::anyhow!("cannot start a thread")), &facts());
    assert_eq!(other.to_string(), "cannot start a thread");
}

#[test]
fn a_refused_option_is_reported_in_one_line() {
    let log = "0: R1=ctx()\nunknown func bpf_get_current_cgroup_id#80\nprocessed 3 insns (limit 1000000)\n";
    let error = ProgramError::LoadError {
        io_error: errno(EINVAL),
        verifier_log: VerifierLog::new(log.into()),
    };
    assert_eq!(brief(&error), "Invalid argument: unknown func bpf_get_current_cgroup_id#80");
    assert_eq!(brief(&ProgramError::NotLoaded), "the program is not loaded");
}
