//! Checks of this host that need neither traffic nor attached programs.

use std::{fs, path::Path};

use super::check::Check;
use crate::{
    host::{
        cgroups, mounts,
        namespaces::{self, Listing},
        pid_namespace,
        privileges::{
            self, BPF, Capability, DAC_READ_SEARCH, Facts, Lockdown, NO_MEMLOCK, OLDEST, PERFMON,
            SYS_ADMIN, SYS_PTRACE,
        },
    },
    kernel::{PREEMPTED, describe_types},
    message::failure::Failure,
    trace::ring_size::bytes,
};

/// Checks of what loading eBPF programs depends on. `types` is a file with the BTF of the kernel;
/// `None`: the BTF that the kernel exports.
pub(super) fn before_attaching(facts: &Facts, types: Option<&Path>) -> Vec<Check> {
    let mut checks = vec![kernel(facts), btf(types)];
    checks.extend([&BPF, &PERFMON].map(|right| capability(right, facts, true)));
    checks.extend(
        [&SYS_ADMIN, &SYS_PTRACE, &DAC_READ_SEARCH].map(|right| capability(right, facts, false)),
    );
    checks.extend([lockdown(facts), memlock(facts)]);
    checks
}

/// Checks of what the details about connections depend on, such as owners and names.
pub(super) fn for_details() -> Vec<Check> {
    let mountinfo = mounts::read().unwrap_or_default();
    let mounted = |kind| mount_point(&mountinfo, kind);
    let clock = fs::read_to_string(CLOCK_SOURCE).ok();
    vec![
        reachable_namespaces(&namespaces::list(&[])),
        cgroup(mounted("cgroup2"), cgroups::in_initial_namespace()),
        processes(pid_namespace::is_initial()),
        tracefs(mounted("tracefs"), privileges::preempts_hooks()),
        clock_source(clock.as_deref().map(str::trim)),
    ]
}

fn kernel(facts: &Facts) -> Check {
    let text = format!("Linux {}; synfin needs {OLDEST} or later", facts.kernel);
    if facts.older_than(OLDEST) {
        Check::missing("kernel", text).remedy(format!("boot Linux {OLDEST} or later"))
    } else {
        Check::ok("kernel", text)
    }
}

fn btf(file: Option<&Path>) -> Check {
    const IMPACT: &str = "the offsets of kernel fields are unknown: nothing can be traced";
    match describe_types(file) {
        Ok(text) => Check::ok("btf", text),
        Err(error) => match error.downcast_ref::<Failure>() {
            Some(failure) => Check::missing("btf", failure.why.clone())
                .impact(IMPACT)
                .remedy(failure.remedy.clone()),
            None => Check::missing("btf", format!("{error:#}")).impact(IMPACT),
        },
    }
}

fn capability(right: &Capability, facts: &Facts, is_required: bool) -> Check {
    let id = right.name.to_ascii_lowercase();
    match (facts.has(right), is_required) {
        (true, _) => Check::ok(id, "held"),
        (false, true) => {
            let check = Check::missing(id, "not held, and neither is CAP_SYS_ADMIN");
            check.impact(right.impact).remedy(facts.remedy_for_rights())
        }
        (false, false) => {
            Check::note(id, "not held").impact(right.impact).remedy(facts.remedy_for_rights())
        }
    }
}

fn lockdown(facts: &Facts) -> Check {
    match facts.lockdown {
        Lockdown::None => Check::ok("lockdown", "none"),
        Lockdown::Integrity => Check::ok("lockdown", "integrity, under which synfin works"),
        Lockdown::Confidentiality => {
            Check::missing("lockdown", "confidentiality: eBPF programs must not read kernel memory")
                .impact("nothing can be traced")
                .remedy("boot with lockdown=integrity")
        }
        Lockdown::Unknown => Check::ok(
            "lockdown",
            "unknown, because securityfs is not mounted; irrelevant if kernel_side is ok",
        ),
    }
}

fn memlock(facts: &Facts) -> Check {
    match facts.memlock {
        Some(limit) if facts.older_than(NO_MEMLOCK) => {
            Check::note("memlock", format!("RLIMIT_MEMLOCK is {}", bytes(limit)))
                .impact("the kernel rejects the ring buffer if the limit cannot be raised")
                .remedy("run `ulimit -l unlimited`, or grant CAP_SYS_RESOURCE")
        }
        _ if facts.older_than(NO_MEMLOCK) => Check::ok("memlock", "no limit"),
        _ => Check::ok("memlock", format!("irrelevant since Linux {NO_MEMLOCK}")),
    }
}

fn reachable_namespaces(listing: &Listing) -> Check {
    let Listing { namespaces, closed, hidden } = listing;
    let closed_and_listed = if namespaces::have_cookies() { 0 } else { closed.len() };
    let entered = namespaces.len().saturating_sub(closed_and_listed);
    let found = entered + closed.len();
    let mut text = format!("{entered} of {found} network namespaces can be entered");
    if let Some(error) = closed.first() {
        text += &format!(" ({error:#})");
    }
    if *hidden > 0 {
        text += &format!("; the namespaces of {hidden} processes are hidden");
    }
    if closed.is_empty() && *hidden == 0 {
        return Check::ok("namespaces", text);
    }
    Check::note("namespaces", text)
        .impact("connections older than the trace, TIME_WAIT and queues are unknown in the others")
        .remedy("run with CAP_SYS_ADMIN and CAP_SYS_PTRACE, in the initial user namespace")
}

fn cgroup(mount: Option<String>, is_initial_namespace: bool) -> Check {
    const IMPACT: &str = "the names of containers are unknown";
    match mount {
        Some(path) if is_initial_namespace => {
            Check::ok("cgroup", format!("cgroup v2 is mounted at {path}"))
        }
        Some(_) => Check::note("cgroup", "this process has a cgroup namespace of its own")
            .impact(IMPACT)
            .remedy("start the container with the host's cgroup namespace (--cgroupns=host, --privileged)"),
        None => Check::note("cgroup", "cgroup v2 is not mounted")
            .impact(IMPACT)
            .remedy("mount -t cgroup2 none /sys/fs/cgroup (in a container: mount the host's)"),
    }
}

fn processes(is_initial_namespace: Option<bool>) -> Check {
    if is_initial_namespace == Some(true) {
        Check::ok("processes", "all processes of this host are visible in /proc")
    } else {
        Check::note("processes", "this is not the initial PID namespace: /proc hides processes outside it")
            .impact("owners outside are unknown if only /proc shows them, and process ids are those of the host")
            .remedy("run on the host, or share its PID namespace (docker: --pid=host; Kubernetes: hostPID)")
    }
}

fn tracefs(mount: Option<String>, is_required: bool) -> Check {
    match (mount, is_required) {
        (Some(path), true) => Check::ok("tracefs", format!("mounted at {path}")),
        (Some(path), false) => Check::ok("tracefs", format!("mounted at {path}, but not needed")),
        (None, false) => Check::ok("tracefs", "not mounted, and not needed"),
        (None, true) => Check::note("tracefs", "not mounted")
            .impact(PREEMPTED)
            .remedy("mount -t tracefs tracefs /sys/kernel/tracing"),
    }
}

const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

fn clock_source(name: Option<&str>) -> Check {
    // HPET and the ACPI timer take about a microsecond per read; jiffies are coarse.
    const SLOW: [&str; 4] = ["hpet", "acpi_pm", "jiffies", "refined-jiffies"];
    match name {
        Some(name) if SLOW.contains(&name) => Check::note(
            "clock",
            format!("the clock source is {name}, which is slow or coarse"),
        )
        .impact("every transition costs more, or its time is coarse")
        .remedy(
            "find out why the kernel rejected the clock of the CPU (dmesg | grep -i clocksource)",
        ),
        Some(name) => Check::ok("clock", format!("the clock source is {name}")),
        None => Check::ok("clock", "the clock source is unknown"),
    }
}

/// The first mount point of a file system type; `None`: it is not mounted.
fn mount_point(mountinfo: &[u8], kind: &str) -> Option<String> {
    let found = mounts::parse(mountinfo).find(|mount| mount.kind == kind.as_bytes());
    found.map(|mount| mount.point.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::doctor::check::Status;

    #[test]
    fn mounts_are_found_by_type() {
        let mountinfo = b"25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n";
        let found = mount_point(mountinfo, "cgroup2");
        assert_eq!(found.as_deref(), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mount_point(mountinfo, "tracefs"), None);
    }

    #[test]
    fn optional_features_are_never_missing() {
        let checks = [
            cgroup(None, true),
            cgroup(Some("/sys/fs/cgroup".into()), false),
            processes(Some(false)),
            tracefs(None, false),
            tracefs(None, true),
            clock_source(Some("hpet")),
        ];
        assert_eq!(
            checks.map(|check| check.status),
            [Status::Note, Status::Note, Status::Note, Status::Ok, Status::Note, Status::Note]
        );
    }
}
