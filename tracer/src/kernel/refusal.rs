//! What the kernel refused, and why, as far as facts tell.

use std::{
    io,
    path::{Path, PathBuf},
};

use aya::{BtfError, EbpfError, maps::MapError, programs::ProgramError};
use thiserror::Error;

use super::btf::source::{BTF_FILE, FileError};
use crate::{
    host::privileges::{
        BPF, Facts, Lockdown, NO_MEMLOCK, OLDEST, PERFMON, RING_BUFFERS, TELLS_TYPES, TRACEPOINT,
    },
    kernel::ring_size::bytes,
    message::failure::Failure,
};

/// What the kernel did not do, by the step that failed.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    /// There is no type information.
    #[error("cannot read {BTF_FILE}")]
    NoTypes(#[source] io::Error),
    /// The file that is to have it does not, or not this kernel's.
    #[error("{} is not taken for the kernel's type information: {error}", .path.display())]
    TypeFile { path: PathBuf, error: FileError },
    /// There is, but it is not understood.
    #[error("the kernel's type information is not understood: {0}")]
    StrangeTypes(String),
    /// These fields of the kernel's structures are missing.
    #[error("the kernel's type information lacks {}", .0.join(", "))]
    MissingFields(Vec<&'static str>),
    /// The maps could not be made.
    #[error("cannot load the kernel side")]
    Object { ring_bytes: u32, error: EbpfError },
    /// The main hook could not be loaded or attached.
    #[error("the main hook is refused")]
    Hook { tracepoint: &'static str, error: ProgramError },
    /// Something else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

const CANNOT_TRACE: &str = "cannot watch this host";

/// Why tracing is not possible, from what was refused and the facts.
pub(super) fn explain(refusal: Refusal, facts: &Facts) -> anyhow::Error {
    match refusal {
        Refusal::Other(error) => error,
        refusal => understood(&refusal, facts).into(),
    }
}

fn understood(refusal: &Refusal, facts: &Facts) -> Failure {
    let kernel = &facts.kernel;
    match refusal {
        Refusal::NoTypes(error) => no_types(error, facts),
        Refusal::TypeFile { path, error } => no_such_types(path, error, facts),
        Refusal::StrangeTypes(_) | Refusal::MissingFields(_) => Failure::cannot_run(
            CANNOT_TRACE,
            format!("{refusal} (Linux {kernel})"),
            "this kernel is newer than this synfin, or not Linux's own: get a newer synfin, or report it with the kernel's version",
        ),
        Refusal::Object { ring_bytes, error } => match error {
            EbpfError::MapError(MapError::CreateError { name, io_error }) => {
                no_map(name, io_error, *ring_bytes, facts)
            }
            error => strange(refusal, error, facts),
        },
        Refusal::Hook { tracepoint, error } => hook_error(tracepoint, error, facts),
        Refusal::Other(error) => strange(refusal, error.as_ref(), facts),
    }
}

fn no_types(error: &io::Error, facts: &Facts) -> Failure {
    let (file, kernel) = (BTF_FILE, &facts.kernel);
    if error.kind() == io::ErrorKind::NotFound {
        return Failure::cannot_run(
            format!("{CANNOT_TRACE}: its kernel's type information (BTF) is missing"),
            format!(
                "there is no {file}: Linux {kernel} was built without CONFIG_DEBUG_INFO_BTF, or /sys is not the host's"
            ),
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as all current distributions have; in a container, mount the host's /sys, or give a copy of the host's file with --btf",
        );
    }
    Failure::cannot_run(
        format!("{CANNOT_TRACE}: its kernel's type information (BTF) cannot be read"),
        format!("{file}: {}", crate::message::failure::describe(error)),
        "see that /sys is mounted and may be read, or give a copy of that file with --btf",
    )
}

fn no_such_types(path: &Path, error: &FileError, facts: &Facts) -> Failure {
    let (file, kernel) = (path.display(), &facts.kernel);
    let what = format!("cannot take the kernel's type information (BTF) from {file}");
    let why = error.to_string();
    match error {
        FileError::Unproven => Failure::cannot_run(
            what,
            format!("{why} (Linux {kernel})"),
            format!(
                "give CAP_SYS_ADMIN (from Linux {TELLS_TYPES} on) or CAP_SYSLOG, or mount /sys"
            ),
        ),
        FileError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            Failure::usage(what, why, format!("check the path: --btf takes a copy of {BTF_FILE}"))
        }
        _ => Failure::usage(
            what,
            why,
            format!(
                "give a copy of {BTF_FILE} of this very kernel, Linux {kernel}, or its vmlinux; or leave out --btf where that file is there"
            ),
        ),
    }
}

fn no_map(name: &str, error: &io::Error, ring_bytes: u32, facts: &Facts) -> Failure {
    const ENOMEM: i32 = nix::libc::ENOMEM;
    const EINVAL: i32 = nix::libc::EINVAL;
    let is_ring = name == "EVENTS";
    match error.raw_os_error() {
        Some(EINVAL) if is_ring && facts.older_than(RING_BUFFERS) => too_old(facts, "ring buffers"),
        Some(ENOMEM) if is_ring => Failure::cannot_run(
            format!("{CANNOT_TRACE}: there is no memory for the ring buffer"),
            format!("the kernel has no {} for it", bytes(ring_bytes.into())),
            format!(
                "free memory, raise the cgroup's limit, or ask for less: --ring-size {}",
                bytes(u64::from(ring_bytes / 4).max(4096))
            ),
        ),
        _ if is_forbidden(error) => forbidden("make eBPF maps", error, facts, true),
        _ => unexpected(&format!("it cannot make the map {name}: {error}"), facts),
    }
}

fn hook_error(tracepoint: &str, error: &ProgramError, facts: &Facts) -> Failure {
    match error {
        ProgramError::Btf(BtfError::UnknownBtfTypeName { .. }) if facts.older_than(TRACEPOINT) => {
            too_old(facts, "the tracepoint that synfin lives on")
        }
        ProgramError::Btf(BtfError::UnknownBtfTypeName { .. }) => Failure::cannot_run(
            format!("{CANNOT_TRACE}: the tracepoint {tracepoint} is missing"),
            format!(
                "Linux {} has it not in its type information: it was built without tracepoints (CONFIG_TRACEPOINTS), or without TCP",
                facts.kernel
            ),
            "boot a kernel with CONFIG_FTRACE=y and CONFIG_BPF_EVENTS=y, as all current distributions have",
        ),
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let refused = if log.trim().is_empty() && is_forbidden(io_error) {
                forbidden("load eBPF programs that look into the kernel", io_error, facts, false)
            } else {
                not_verified(tracepoint, io_error, facts)
            };
            Failure { log, ..refused }
        }
        error => match cause(error) {
            Some(io_error) if is_forbidden(io_error) => {
                forbidden("attach eBPF programs", io_error, facts, false)
            }
            _ => unexpected(&chain(error), facts),
        },
    }
}

/// The kernel looked at the program and did not like it.
fn not_verified(tracepoint: &str, error: &io::Error, facts: &Facts) -> Failure {
    if facts.lockdown == Lockdown::Confidentiality {
        return locked_down(facts);
    }
    if facts.older_than(OLDEST) {
        return too_old(facts, "a verifier that accepts synfin's programs");
    }
    Failure::cannot_run(
        format!("{CANNOT_TRACE}: its kernel refuses synfin's program on {tracepoint}"),
        format!(
            "the verifier of Linux {} does not accept it ({})",
            facts.kernel,
            crate::message::failure::describe(error)
        ),
        "report it with the kernel's version and what `synfin doctor -v` says; until then another kernel will do",
    )
}

/// The kernel said no. Facts tell why, the likeliest first.
fn forbidden(deed: &str, error: &io::Error, facts: &Facts, memory: bool) -> Failure {
    let missing = [&BPF, &PERFMON].into_iter().filter(|right| !facts.has(right));
    let missing: Vec<_> = missing.map(|right| right.name).collect();
    if !missing.is_empty() {
        let missing = missing.join(" and ");
        let who = if facts.root {
            "root does not hold"
        } else {
            "this user, who is not root, does not hold"
        };
        return Failure::cannot_run(
            format!("{CANNOT_TRACE} without {missing}"),
            format!(
                "to {deed} takes CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN instead of both; {who} {missing} here"
            ),
            facts.remedy_for_rights(),
        );
    }
    if facts.in_user_namespace {
        return Failure::cannot_run(
            format!("{CANNOT_TRACE}: this is a user namespace"),
            "the capabilities that a process has in a user namespace (a rootless container, `unshare -U`) are none for eBPF",
            "run synfin on the host itself, or in a container that is not rootless",
        );
    }
    if memory
        && facts.older_than(NO_MEMLOCK)
        && let Some(limit) = facts.memlock
    {
        return Failure::cannot_run(
            format!("{CANNOT_TRACE}: it may not lock enough memory"),
            format!(
                "before Linux {NO_MEMLOCK} eBPF maps count as locked memory, and RLIMIT_MEMLOCK is {} here (Linux {})",
                bytes(limit),
                facts.kernel
            ),
            "raise the limit (ulimit -l unlimited; LimitMEMLOCK=infinity in a systemd unit), or give CAP_SYS_RESOURCE",
        );
    }
    if facts.lockdown == Lockdown::Confidentiality {
        return locked_down(facts);
    }
    let (why, remedy) = if facts.seccomp {
        (
            "a seccomp filter is on, which likely keeps bpf(2) from this container or unit",
            "use a seccomp profile that allows bpf(2) (docker: --security-opt seccomp=unconfined; systemd: SystemCallFilter=)",
        )
    } else {
        (
            "this process has the capabilities for it, so that a security module (SELinux, AppArmor) is likely to forbid it",
            "look for bpf in the audit log (ausearch -m avc, dmesg), and allow it for synfin",
        )
    };
    Failure::cannot_run(
        format!(
            "{CANNOT_TRACE}: the kernel does not let it {deed} ({})",
            crate::message::failure::describe(error)
        ),
        why,
        remedy,
    )
}

fn locked_down(facts: &Facts) -> Failure {
    Failure::cannot_run(
        format!("{CANNOT_TRACE}: its kernel is locked down"),
        format!(
            "lockdown is in the mode `confidentiality` (Linux {}), which forbids to read the kernel's memory, even to root",
            facts.kernel
        ),
        "boot with lockdown=integrity, which is enough for Secure Boot, or without lockdown",
    )
}

fn too_old(facts: &Facts, what: &str) -> Failure {
    Failure::cannot_run(
        format!("{CANNOT_TRACE}: its kernel is too old"),
        format!("this is Linux {}, which does not have {what}", facts.kernel),
        format!("boot Linux {OLDEST} or later"),
    )
}

fn strange(refusal: &Refusal, error: &(dyn std::error::Error + 'static), facts: &Facts) -> Failure {
    match cause(error) {
        Some(io_error) if is_forbidden(io_error) => {
            forbidden("load eBPF programs", io_error, facts, true)
        }
        _ => unexpected(&format!("{refusal}: {}", chain(error)), facts),
    }
}

fn unexpected(why: &str, facts: &Facts) -> Failure {
    if facts.older_than(OLDEST) {
        return too_old(facts, "all that synfin needs");
    }
    Failure::cannot_run(
        CANNOT_TRACE,
        format!("{why} (Linux {})", facts.kernel),
        "run `synfin doctor`; if it shows no cause, report it with the kernel's version",
    )
}

fn is_forbidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// The operating system's error at the bottom.
fn cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref::<io::Error>())
}

/// An error with its causes, each said once.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    for error in std::iter::successors(Some(error), |error| error.source()) {
        let part = error.to_string();
        if !text.ends_with(&part) {
            if !text.is_empty() {
                text += ": ";
            }
            text += &part;
        }
    }
    text
}

/// Why an optional program was refused, in a few words: the verifier's log may be long.
pub(super) fn brief(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let complaint = log.lines().rev().map(str::trim).find(|line| {
                !line.is_empty() && !VERIFIER_STATISTICS.iter().any(|word| line.starts_with(word))
            });
            let said = crate::message::failure::describe(io_error);
            complaint.map_or(said.clone(), |complaint| format!("{said}: {complaint}"))
        }
        error => chain(error),
    }
}

/// How the lines begin that end a verifier's log.
const VERIFIER_STATISTICS: [&str; 4] = ["processed ", "verification time", "stack depth", "insns "];

#[cfg(test)]
mod tests {
    use aya_obj::VerifierLog;

    use super::*;
    use crate::host::privileges::{Release, SYS_ADMIN};

    fn facts() -> Facts {
        Facts::of_a_good_host()
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

    /// Everything that is said, and that all three parts are.
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
        // CAP_SYS_ADMIN stands for both.
        let admin = facts().without(&[&BPF, &PERFMON]);
        assert!(!said(&no_map("EVENT_COUNTS", EPERM), &admin).contains("without CAP_BPF"));
    }

    #[test]
    fn what_keeps_a_root_with_all_rights_out_is_named() {
        let refusals =
            [no_map("EVENT_COUNTS", EPERM), not_loaded(EPERM, ""), not_loaded(EACCES, "")];
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
            &["no memory for the ring buffer", "no 16M", "--ring-size 4M"],
        );
    }

    #[test]
    fn missing_types_and_fields_are_named() {
        let gone = Refusal::NoTypes(io::ErrorKind::NotFound.into());
        assert_says(&gone, &facts(), &["BTF", "CONFIG_DEBUG_INFO_BTF=y", BTF_FILE, "--btf"]);
        let closed = Refusal::NoTypes(errno(EACCES));
        assert_says(&closed, &facts(), &["cannot be read", "Permission denied"]);
        let fields = Refusal::MissingFields(vec!["sock.sk_err", "tcp_sock.srtt_us"]);
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
        assert!(!all.contains('\x1b'), "the log is not harmless");
        let locked = Facts { lockdown: Lockdown::Confidentiality, ..facts() };
        assert_says(
            &not_loaded(EINVAL, "unknown func bpf_probe_read_kernel#113\n"),
            &locked,
            &["locked down", "unknown func"],
        );
    }

    #[test]
    fn what_is_not_understood_is_told_as_it_is() {
        let strange = Refusal::Object { ring_bytes: 4096, error: EbpfError::NoBTF };
        assert_says(&strange, &facts(), &["no BTF parsed for object", "synfin doctor"]);
        let other = explain(Refusal::Other(anyhow::anyhow!("cannot start a thread")), &facts());
        assert_eq!(other.to_string(), "cannot start a thread");
    }

    #[test]
    fn a_refused_option_is_told_in_a_line() {
        let log = "0: R1=ctx()\nunknown func bpf_get_current_cgroup_id#80\nprocessed 3 insns (limit 1000000)\n";
        let error = ProgramError::LoadError {
            io_error: errno(EINVAL),
            verifier_log: VerifierLog::new(log.into()),
        };
        assert_eq!(brief(&error), "Invalid argument: unknown func bpf_get_current_cgroup_id#80");
        assert_eq!(brief(&ProgramError::NotLoaded), "the program is not loaded");
    }
}
