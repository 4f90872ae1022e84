//! What the kernel refused, and the likely cause.

use std::{io, path::Path};

use aya::{BtfError, EbpfError, maps::MapError, programs::ProgramError};
use thiserror::Error;

use super::btf::source::{BTF_FILE, FileError, TypesError};
use crate::{
    host::privileges::{
        BPF, BTF_BY_SYSCALL, Facts, Lockdown, NO_MEMLOCK, OLDEST, PERFMON, RING_BUFFERS, TRACEPOINT,
    },
    message::failure::Failure,
    trace::ring_size::bytes,
};

/// The step that the kernel refused.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    /// The kernel's type information cannot be used.
    #[error(transparent)]
    Types(#[from] TypesError),
    /// The maps could not be created.
    #[error("cannot load the eBPF programs")]
    Object { ring_bytes: u32, error: EbpfError },
    /// The main hook could not be loaded or attached.
    #[error("the main hook was refused")]
    Hook { tracepoint: &'static str, error: ProgramError },
    /// Any other error.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

const CANNOT_TRACE: &str = "cannot trace this host";

/// Explains why tracing is impossible, from the refusal and the facts.
pub(super) fn explain(refusal: Refusal, facts: &Facts) -> anyhow::Error {
    match refusal {
        Refusal::Other(error) => error,
        refusal => understood(&refusal, facts).into(),
    }
}

fn understood(refusal: &Refusal, facts: &Facts) -> Failure {
    let kernel = &facts.kernel;
    match refusal {
        Refusal::Types(TypesError::Missing(error)) => no_types(error, facts),
        Refusal::Types(TypesError::File { path, error }) => no_such_types(path, error, facts),
        Refusal::Types(TypesError::Malformed(_) | TypesError::MissingFields(_)) => {
            Failure::cannot_run(
                CANNOT_TRACE,
                format!("{refusal} (Linux {kernel})"),
                "this kernel is newer than this version of synfin, or modified: install a newer synfin, or report it with the kernel's version",
            )
        }
        Refusal::Object { ring_bytes, error } => match error {
            EbpfError::MapError(MapError::CreateError { name, io_error }) => {
                no_map(name, io_error, *ring_bytes, facts)
            }
            error => other_error(refusal, error, facts),
        },
        Refusal::Hook { tracepoint, error } => hook_error(tracepoint, error, facts),
        Refusal::Other(error) => other_error(refusal, error.as_ref(), facts),
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
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as all current distributions have; in a container, mount the host's /sys, or specify a copy of the host's file with --btf",
        );
    }
    Failure::cannot_run(
        format!("{CANNOT_TRACE}: its kernel's type information (BTF) cannot be read"),
        format!("{file}: {}", crate::message::failure::describe(error)),
        "check that /sys is mounted and readable, or specify a copy of that file with --btf",
    )
}

fn no_such_types(path: &Path, error: &FileError, facts: &Facts) -> Failure {
    let (file, kernel) = (path.display(), &facts.kernel);
    let what = format!("cannot read the kernel's type information (BTF) from {file}");
    let why = error.to_string();
    match error {
        FileError::Unproven => Failure::cannot_run(
            what,
            format!("{why} (Linux {kernel})"),
            format!(
                "grant CAP_SYS_ADMIN (since Linux {BTF_BY_SYSCALL}) or CAP_SYSLOG, or mount /sys"
            ),
        ),
        FileError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            Failure::usage(what, why, format!("check the path: --btf takes a copy of {BTF_FILE}"))
        }
        _ => Failure::usage(
            what,
            why,
            format!(
                "specify a copy of {BTF_FILE} of exactly this kernel, Linux {kernel}, or its vmlinux; or omit --btf if that file exists"
            ),
        ),
    }
}

fn no_map(name: &str, error: &io::Error, ring_bytes: u32, facts: &Facts) -> Failure {
    const ENOMEM: i32 = nix::libc::ENOMEM;
    const EINVAL: i32 = nix::libc::EINVAL;
    let is_ring = ["EVENTS", "SEGMENTS"].contains(&name);
    match error.raw_os_error() {
        Some(EINVAL) if is_ring && facts.older_than(RING_BUFFERS) => too_old(facts, "ring buffers"),
        Some(ENOMEM) if is_ring => Failure::cannot_run(
            format!("{CANNOT_TRACE}: there is no memory for the ring buffers"),
            format!("the kernel cannot provide ring buffers of {}", bytes(ring_bytes.into())),
            format!(
                "free memory, raise the cgroup's limit, or use smaller ones: --ring-size {}",
                bytes(u64::from(ring_bytes / 4).max(4096))
            ),
        ),
        _ if is_forbidden(error) => forbidden("create eBPF maps", error, facts, true),
        _ => unexpected(&format!("it cannot create the map {name}: {error}"), facts),
    }
}

fn hook_error(tracepoint: &str, error: &ProgramError, facts: &Facts) -> Failure {
    match error {
        ProgramError::Btf(BtfError::UnknownBtfTypeName { .. }) if facts.older_than(TRACEPOINT) => {
            too_old(facts, "the tracepoint sock:inet_sock_set_state")
        }
        ProgramError::Btf(BtfError::UnknownBtfTypeName { .. }) => Failure::cannot_run(
            format!("{CANNOT_TRACE}: the tracepoint {tracepoint} is missing"),
            format!(
                "the kernel's BTF (Linux {}) does not contain it: the kernel was built without tracepoints (CONFIG_TRACEPOINTS) or without TCP",
                facts.kernel
            ),
            "boot a kernel with CONFIG_FTRACE=y and CONFIG_BPF_EVENTS=y, as all current distributions have",
        ),
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let refused = if log.trim().is_empty() && is_forbidden(io_error) {
                forbidden("load eBPF programs that read kernel memory", io_error, facts, false)
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

/// The verifier rejected the program.
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
        "report it with the kernel's version and the output of `synfin doctor -v`, and use another kernel meanwhile",
    )
}

/// The kernel denied permission. The facts give the cause; the most likely one comes first.
fn forbidden(action: &str, error: &io::Error, facts: &Facts, memory: bool) -> Failure {
    let missing = [&BPF, &PERFMON].into_iter().filter(|right| !facts.has(right));
    let missing: Vec<_> = missing.map(|right| right.name).collect();
    if !missing.is_empty() {
        let missing = missing.join(" and ");
        let who = if facts.root { "root lacks" } else { "this user, who is not root, lacks" };
        return Failure::cannot_run(
            format!("{CANNOT_TRACE} without {missing}"),
            format!(
                "permission to {action} requires CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN; {who} {missing}"
            ),
            facts.remedy_for_rights(),
        );
    }
    if facts.in_user_namespace {
        return Failure::cannot_run(
            format!("{CANNOT_TRACE}: this is a user namespace"),
            "capabilities in a user namespace (a rootless container, `unshare -U`) do not permit eBPF",
            "run synfin on the host itself, or in a container that is not rootless",
        );
    }
    if memory
        && facts.older_than(NO_MEMLOCK)
        && let Some(limit) = facts.memlock
    {
        return Failure::cannot_run(
            format!("{CANNOT_TRACE}: the limit on locked memory is too low"),
            format!(
                "before Linux {NO_MEMLOCK} eBPF maps count as locked memory, and RLIMIT_MEMLOCK is {} here (Linux {})",
                bytes(limit),
                facts.kernel
            ),
            "raise the limit (ulimit -l unlimited; LimitMEMLOCK=infinity in a systemd unit), or grant CAP_SYS_RESOURCE",
        );
    }
    if facts.lockdown == Lockdown::Confidentiality {
        return locked_down(facts);
    }
    let (why, remedy) = if facts.seccomp {
        (
            "a seccomp filter is active, which probably forbids bpf(2) in this container or unit",
            "use a seccomp profile that allows bpf(2) (docker: --security-opt seccomp=unconfined; systemd: SystemCallFilter=)",
        )
    } else {
        (
            "this process has the required capabilities, so a security module (SELinux, AppArmor) probably forbids it",
            "search the audit log for bpf (ausearch -m avc, dmesg), and allow it for synfin",
        )
    };
    Failure::cannot_run(
        format!(
            "{CANNOT_TRACE}: the kernel forbids synfin to {action} ({})",
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
            "lockdown is in the mode `confidentiality` (Linux {}), which forbids reading kernel memory, even for root",
            facts.kernel
        ),
        "boot with lockdown=integrity, which suffices for Secure Boot, or without lockdown",
    )
}

fn too_old(facts: &Facts, what: &str) -> Failure {
    Failure::cannot_run(
        format!("{CANNOT_TRACE}: its kernel is too old"),
        format!("this is Linux {}, which does not have {what}", facts.kernel),
        format!("boot Linux {OLDEST} or later"),
    )
}

fn other_error(
    refusal: &Refusal,
    error: &(dyn std::error::Error + 'static),
    facts: &Facts,
) -> Failure {
    match cause(error) {
        Some(io_error) if is_forbidden(io_error) => {
            forbidden("load eBPF programs", io_error, facts, true)
        }
        _ => unexpected(&format!("{refusal}: {}", chain(error)), facts),
    }
}

fn unexpected(why: &str, facts: &Facts) -> Failure {
    if facts.older_than(OLDEST) {
        return too_old(facts, "everything that synfin needs");
    }
    Failure::cannot_run(
        CANNOT_TRACE,
        format!("{why} (Linux {})", facts.kernel),
        "run `synfin doctor`; if it finds no cause, report it with the kernel's version",
    )
}

fn is_forbidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// The operating system's error at the end of the error chain.
fn cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref::<io::Error>())
}

/// An error and its causes, without repetitions.
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

/// A short reason why an optional program was refused, as the verifier's log may be long.
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

/// Prefixes of the lines that end a verifier's log.
const VERIFIER_STATISTICS: [&str; 4] = ["processed ", "verification time", "stack depth", "insns "];

#[cfg(test)]
mod tests;
