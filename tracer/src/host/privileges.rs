//! Facts that determine whether this host can be traced: its kernel and the privileges of this
//! process. They are gathered after a failure and by `doctor`.

use std::{fs, path::Path};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

/// The oldest supported kernel.
pub const OLDEST: Release = Release(5, 10);
/// The first release with BPF ring buffers.
pub(crate) const RING_BUFFERS: Release = Release(5, 8);
/// The first release whose maps do not count against RLIMIT_MEMLOCK.
pub const NO_MEMLOCK: Release = Release(5, 11);
/// The first release that provides its own type information through bpf(2).
pub(crate) const BTF_BY_SYSCALL: Release = Release(5, 11);
/// The first release with the main tracepoint.
pub(crate) const TRACEPOINT: Release = Release(4, 16);

/// The file that contains the kernel release.
const RELEASE: &str = "/proc/sys/kernel/osrelease";

/// The file that contains the lockdown mode.
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

const RUN_AS_ROOT: &str = "run synfin as root (sudo), or grant the program `setcap cap_bpf,cap_perfmon,cap_sys_admin,cap_sys_ptrace,cap_dac_read_search+ep`";

/// Major and minor version of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32);

impl Release {
    /// The running kernel's release, or `None` if it cannot be parsed.
    fn running() -> Option<Self> {
        Self::parse(&read(RELEASE))
    }

    /// Parses the output of `uname -r`.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(|character: char| !character.is_ascii_digit());
        Some(Self(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// A Linux capability.
#[derive(Debug, PartialEq, Eq)]
pub struct Capability {
    /// The kernel's name for the capability.
    pub name: &'static str,
    bit: u8,
    /// What is impossible without the capability.
    pub impact: &'static str,
}

/// Required to load programs and create maps.
pub static BPF: Capability = Capability {
    name: "CAP_BPF",
    bit: 39,
    impact: "no eBPF program can be loaded: nothing can be traced",
};
/// Required to load programs that read kernel memory.
pub static PERFMON: Capability = Capability {
    name: "CAP_PERFMON",
    bit: 38,
    impact: "no program that reads kernel memory can be loaded: nothing can be traced",
};
/// Required to enter other namespaces; it also implies `CAP_BPF` and `CAP_PERFMON`.
pub static SYS_ADMIN: Capability = Capability {
    name: "CAP_SYS_ADMIN",
    bit: 21,
    impact: "only this network namespace is scanned: in all others connections older than the trace, TIME_WAIT and queues are unknown",
};
/// Required to inspect processes of other users.
pub static SYS_PTRACE: Capability = Capability {
    name: "CAP_SYS_PTRACE",
    bit: 19,
    impact: "network namespaces used only by processes of other users or with more privileges are not found, and so not scanned",
};
/// Required to find a cgroup's path by its id (open_by_handle_at).
pub static DAC_READ_SEARCH: Capability = Capability {
    name: "CAP_DAC_READ_SEARCH",
    bit: 2,
    impact: "the names of cgroups are unknown, and so those of containers and pods",
};

/// The kernel's lockdown mode, which restricts even root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// No lockdown.
    None,
    /// User space may not modify the running kernel.
    Integrity,
    /// User space may also not read kernel memory.
    Confidentiality,
    /// The mode cannot be read: securityfs is not mounted, or the kernel lacks lockdown.
    Unknown,
}

impl Lockdown {
    /// Parses the file's text, in which the active mode is in brackets.
    fn parse(text: &str) -> Self {
        if text.contains("[none]") {
            Self::None
        } else if text.contains("[integrity]") {
            Self::Integrity
        } else if text.contains("[confidentiality]") {
            Self::Confidentiality
        } else {
            Self::Unknown
        }
    }
}

/// The privileges of this process and the kernel that it runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The output of `uname -r`.
    pub kernel: String,
    /// The parsed release, or `None` if it cannot be parsed.
    pub release: Option<Release>,
    /// Effective capabilities, one bit each; see [`Self::has`].
    pub(crate) capabilities: u64,
    /// Whether the effective user id is 0.
    pub root: bool,
    /// Whether the capabilities belong to a user namespace, where they do not count for eBPF.
    pub in_user_namespace: bool,
    /// Whether seccomp filters system calls.
    pub seccomp: bool,
    /// The kernel's lockdown mode.
    pub lockdown: Lockdown,
    /// RLIMIT_MEMLOCK in bytes, or `None` if there is no limit.
    pub memlock: Option<u64>,
}

impl Facts {
    /// Gathers the facts of this process and host.
    pub fn gather() -> Self {
        let kernel = read(RELEASE).trim().to_owned();
        let status = Status::parse(&read("/proc/self/status"));
        let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(RLIM_INFINITY, |(soft, _)| soft);
        Self {
            release: Release::parse(&kernel),
            kernel,
            capabilities: status.capabilities,
            root: nix::unistd::geteuid().is_root(),
            in_user_namespace: !maps_all_users(&read("/proc/self/uid_map")),
            seccomp: status.seccomp,
            lockdown: Lockdown::parse(&read(LOCKDOWN)),
            memlock: (limit != RLIM_INFINITY).then_some(limit),
        }
    }

    /// Whether this process has the capability, either directly or implied by CAP_SYS_ADMIN.
    pub fn has(&self, capability: &Capability) -> bool {
        let has = |bit: u8| self.capabilities >> bit & 1 == 1;
        let included = [&BPF, &PERFMON].contains(&capability);
        has(capability.bit) || included && has(SYS_ADMIN.bit)
    }

    /// Whether the kernel is older than `release`. An unknown release counts as newer.
    pub fn older_than(&self, release: Release) -> bool {
        self.release.is_some_and(|this| this < release)
    }

    /// Tells the user how to obtain a missing privilege.
    pub fn remedy_for_rights(&self) -> String {
        if self.root {
            "in a container, start it with --privileged or --cap-add=BPF,PERFMON,SYS_ADMIN,SYS_PTRACE,DAC_READ_SEARCH; in a systemd unit, add them to CapabilityBoundingSet= and AmbientCapabilities=".to_owned()
        } else {
            RUN_AS_ROOT.to_owned()
        }
    }
}

/// Whether the kernel can preempt a program on a tracepoint. While the program is preempted, the
/// kernel skips it for all other tasks on the same CPU (commits a46023d5616e and f7d327654b88).
pub fn preempts_hooks() -> bool {
    Release::running().is_none_or(|this| this >= Release(7, 0))
}

/// Describes what scans silently omit because a privilege is missing.
pub fn limitations() -> Vec<String> {
    let facts = Facts::gather();
    let missing = [&SYS_ADMIN, &SYS_PTRACE].into_iter().filter(|right| !facts.has(right));
    missing.map(|right| format!("no {}: {}", right.name, right.impact)).collect()
}

/// The relevant lines of `/proc/self/status`.
struct Status {
    pub(crate) capabilities: u64,
    seccomp: bool,
}

impl Status {
    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(name, _)| *name == key).map_or("", |(_, value)| value.trim())
        };
        Self {
            capabilities: u64::from_str_radix(value("CapEff"), 16).unwrap_or(0),
            seccomp: value("Seccomp") == "2",
        }
    }
}

/// Reads a file, or returns an empty string if it cannot be read. The text need not be UTF-8: a
/// process's status contains its name, for example.
fn read(path: impl AsRef<Path>) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Whether this is the map of the initial user namespace, which maps every user to itself.
fn maps_all_users(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
impl Facts {
    /// Root on a kernel without restrictions.
    pub(crate) fn unrestricted() -> Self {
        Self {
            kernel: "6.18.1-test".into(),
            release: Some(Release(6, 18)),
            capabilities: u64::MAX,
            root: true,
            in_user_namespace: false,
            seccomp: false,
            lockdown: Lockdown::None,
            memlock: None,
        }
    }

    /// The same facts without these capabilities.
    pub(crate) fn without(self, rights: &[&Capability]) -> Self {
        let fewer = |all: u64, right: &&Capability| all & !(1 << right.bit);
        Self { capabilities: rights.iter().fold(self.capabilities, fewer), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_that_is_not_utf_8_hides_no_capabilities() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, b"Name:\tsynfin-\xc3\nCapEff:\t000001ffffffffff\n").unwrap();
        assert_eq!(Status::parse(&read(file.path())).capabilities, 0x1ff_ffff_ffff);
    }

    #[test]
    fn facts_are_parsed_as_the_kernel_writes_them() {
        assert_eq!(Release::parse("5.10.0-8-amd64"), Some(Release(5, 10)));
        assert_eq!(Release::parse("6.18-rc1"), Some(Release(6, 18)));
        assert_eq!(Release::parse("strange"), None);
        assert_eq!(Lockdown::parse("none [integrity] confidentiality\n"), Lockdown::Integrity);
        assert_eq!(
            Lockdown::parse("none integrity [confidentiality]\n"),
            Lockdown::Confidentiality
        );
        assert_eq!(Lockdown::parse(""), Lockdown::Unknown);
        let status = Status::parse(
            "Name:\tx\nCapEff:\t000000c000000000\nSeccomp:\t2\nSeccomp_filters:\t1\n",
        );
        let facts = Facts { capabilities: status.capabilities, ..Facts::unrestricted() };
        assert!(status.seccomp && facts.has(&BPF) && facts.has(&PERFMON) && !facts.has(&SYS_ADMIN));
        assert!(
            maps_all_users("         0          0 4294967295\n") && !maps_all_users("0 1000 1\n")
        );
    }
}
