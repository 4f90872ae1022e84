//! Filters of connections. The tracker applies them, live and in replay. The eBPF programs only exclude
//! connections that certainly do not match.

mod for_kernel;
mod network;
mod port_range;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

pub use self::{network::Network, port_range::PortRange};
use crate::{tcp::role::Role, trace::ids::NetnsId};

/// Conditions that a connection must meet: all conditions, and at least one value of each list. An empty
/// list and `None` are no condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// The process that connects, or that holds the listener.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pids: Vec<u32>,
    /// The service port: the listener's port for a server, the remote port for a client.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_ports: Vec<PortRange>,
    /// The local port.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub local_ports: Vec<PortRange>,
    /// The remote port.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remote_ports: Vec<PortRange>,
    /// The address family; IPv4-mapped addresses are IPv4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// The network of the local address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub local: Vec<Network>,
    /// The network of the remote address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remote: Vec<Network>,
    /// The network namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<NetnsId>,
    /// The cgroup in which the socket was created, or an ancestor of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Cgroup>,
    /// The role of this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4, including IPv4-mapped addresses of IPv6 sockets.
    V4,
    /// IPv6, without IPv4-mapped addresses.
    V6,
}

/// A cgroup (version 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Its path below the root, without a slash at either end.
    pub path: String,
    /// The cgroup for the eBPF programs; `None` if they cannot filter by cgroup.
    pub kernel: Option<KernelCgroup>,
}

/// The identity of a cgroup in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelCgroup {
    /// Its id: the inode number of its directory.
    pub id: u64,
    /// Its depth below the root.
    pub level: u32,
}

/// The known facts about a connection or a listener.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Its network namespace.
    pub netns: NetnsId,
    /// The role of this host.
    pub role: Role,
    /// The local endpoint; port 0 and an unspecified address mean unknown.
    pub local: SocketAddr,
    /// The remote endpoint; port 0 and an unspecified address mean unknown.
    pub remote: SocketAddr,
    /// The service port: the listener's port for a server, the remote port for a client; 0 if unknown.
    pub service_port: u16,
    /// The processes that are known to own the socket.
    pub pids: &'a [u32],
    /// Whether `pids` is complete.
    pub all_pids: bool,
    /// The cgroup in which its socket was created.
    pub cgroup: KnownCgroup<'a>,
}

/// The cgroup of a socket, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownCgroup<'a> {
    /// The cgroup is unknown.
    Unknown,
    /// Its path, without a slash at either end.
    Path(&'a str),
    /// The eBPF programs wrote a record of the socket, so it passed their check of the cgroup.
    CheckedByKernel,
}

impl Filter {
    /// Whether there are no conditions.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it admits either all connections of a listener or none, and decides that by the first
    /// record of each.
    pub(crate) fn keeps_accept_queues(&self) -> bool {
        let Self { pids, remote_ports, family, local, remote, cgroup, .. } = self;
        pids.is_empty()
            && remote_ports.is_empty()
            && family.is_none()
            && local.is_empty()
            && remote.is_empty()
            && cgroup.is_none()
    }

    /// Whether connections in this namespace can match.
    pub fn may_match_netns(&self, netns: NetnsId) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(&netns)
    }

    /// Whether the connection matches; `None` while the facts do not decide.
    pub fn judge(&self, facts: &Facts<'_>) -> Option<bool> {
        let address = |ip: IpAddr| (!ip.is_unspecified()).then_some(ip);
        let port = |port: u16| (port != 0).then_some(port);
        let family = address(facts.remote.ip())
            .or(address(facts.local.ip()))
            // An unspecified IPv6 address may be a dual-stack listener's.
            .or(facts.local.is_ipv4().then_some(facts.local.ip()));
        all([
            Some(self.may_match_netns(facts.netns)),
            self.judge_role(facts.role),
            self.judge_service_port(facts),
            any_of(&self.local_ports, port(facts.local.port()), PortRange::contains),
            any_of(&self.remote_ports, port(facts.remote.port()), PortRange::contains),
            self.family
                .map_or(Some(true), |wanted| Some(family?.is_ipv4() == (wanted == Family::V4))),
            any_of(&self.local, address(facts.local.ip()), Network::contains),
            any_of(&self.remote, address(facts.remote.ip()), Network::contains),
            self.judge_pids(facts),
            self.cgroup.as_ref().map_or(Some(true), |wanted| wanted.judge(facts.cgroup)),
        ])
    }

    fn judge_role(&self, role: Role) -> Option<bool> {
        match (self.role, role) {
            (None, _) => Some(true),
            (Some(_), Role::Unknown) => None,
            (Some(wanted), role) => Some(wanted == role),
        }
    }

    /// The service port of a connection of unknown role is one of its two ports.
    fn judge_service_port(&self, facts: &Facts<'_>) -> Option<bool> {
        let is_among = |port: u16| {
            any_of(&self.service_ports, (port != 0).then_some(port), PortRange::contains)
        };
        match facts.role {
            Role::Unknown => Some(is_among(facts.local.port())?)
                .filter(|is| is_among(facts.remote.port()) == Some(*is)),
            Role::Server | Role::Client => is_among(facts.service_port),
        }
    }

    fn judge_pids(&self, facts: &Facts<'_>) -> Option<bool> {
        let is_listed = facts.pids.iter().any(|pid| self.pids.contains(pid));
        match self.pids.is_empty() || is_listed {
            true => Some(true),
            false => facts.all_pids.then_some(false),
        }
    }

    /// The conditions as command-line flags: names and values.
    pub fn flags(&self) -> Vec<(String, String)> {
        fn list<T: fmt::Display>(values: &[T]) -> Option<String> {
            let texts: Vec<_> = values.iter().map(T::to_string).collect();
            (!texts.is_empty()).then(|| texts.join(","))
        }
        let switch = |family| (self.family == Some(family)).then(|| "yes".to_owned());
        let flags = [
            ("pid", list(&self.pids)),
            ("port", list(&self.service_ports)),
            ("localport", list(&self.local_ports)),
            ("remoteport", list(&self.remote_ports)),
            ("ipv4", switch(Family::V4)),
            ("ipv6", switch(Family::V6)),
            ("local", list(&self.local)),
            ("remote", list(&self.remote)),
            ("netns", list(&self.namespaces)),
            ("cgroup", self.cgroup.as_ref().map(|cgroup| format!("/{}", cgroup.path))),
            ("role", self.role.map(|role| role.name().to_owned())),
        ];
        flags.into_iter().filter_map(|(flag, value)| Some((flag.to_owned(), value?))).collect()
    }
}

impl Cgroup {
    /// Whether `path` is the path of this cgroup or of a descendant.
    pub fn contains(&self, path: &str) -> bool {
        let suffix = path.strip_prefix(&self.path);
        let is_root = self.path.is_empty();
        is_root || suffix.is_some_and(|suffix| suffix.is_empty() || suffix.starts_with('/'))
    }

    fn judge(&self, known: KnownCgroup<'_>) -> Option<bool> {
        match known {
            KnownCgroup::Unknown => None,
            KnownCgroup::CheckedByKernel => self.kernel.is_some().then_some(true),
            KnownCgroup::Path(path) => Some(self.contains(path)),
        }
    }
}

/// The logical AND of answers, of which `None` is unknown.
fn all<const N: usize>(answers: [Option<bool>; N]) -> Option<bool> {
    if answers.contains(&Some(false)) {
        return Some(false);
    }
    (!answers.contains(&None)).then_some(true)
}

fn any_of<T, V: Copy>(
    list: &[T],
    value: Option<V>,
    matches: impl Fn(&T, V) -> bool,
) -> Option<bool> {
    if list.is_empty() {
        Some(true)
    } else {
        value.map(|value| list.iter().any(|item| matches(item, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(role: Role, local: &str, remote: &str) -> Facts<'static> {
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        Facts {
            netns: 1,
            role,
            local,
            remote,
            service_port: role.service_port(local, remote),
            pids: &[],
            all_pids: false,
            cgroup: KnownCgroup::Unknown,
        }
    }

    fn ports(list: &str) -> Vec<PortRange> {
        list.split(',').map(|range| range.parse().unwrap()).collect()
    }

    #[test]
    fn service_port_depends_on_the_role() {
        let filter = Filter { service_ports: ports("443,8000-8099"), ..Filter::default() };
        let judge = |role, local, remote| filter.judge(&facts(role, local, remote));
        assert_eq!(judge(Role::Client, "10.0.0.1:443", "10.0.0.2:80"), Some(false));
        assert_eq!(judge(Role::Client, "10.0.0.1:0", "10.0.0.2:443"), Some(true));
        assert_eq!(judge(Role::Server, "10.0.0.1:8099", "10.0.0.2:443"), Some(true));
        assert_eq!(judge(Role::Server, "10.0.0.1:80", "10.0.0.2:443"), Some(false));
    }

    #[test]
    fn an_unknown_role_leaves_role_and_service_port_undecided() {
        let of_role = Filter { role: Some(Role::Server), ..Filter::default() };
        let of_port = Filter { service_ports: ports("443,8000-8099"), ..Filter::default() };
        let judge =
            |filter: &Filter, local, remote| filter.judge(&facts(Role::Unknown, local, remote));
        assert_eq!(judge(&of_role, "10.0.0.1:443", "10.0.0.2:80"), None);
        assert_eq!(judge(&of_port, "10.0.0.1:443", "10.0.0.2:80"), None);
        assert_eq!(judge(&of_port, "10.0.0.1:80", "10.0.0.2:443"), None);
        assert_eq!(judge(&of_port, "10.0.0.1:80", "10.0.0.2:81"), Some(false));
        assert_eq!(judge(&of_port, "10.0.0.1:443", "10.0.0.2:8001"), Some(true));
        assert_eq!(judge(&Filter::default(), "10.0.0.1:443", "10.0.0.2:80"), Some(true));
    }

    #[test]
    fn unknown_facts_leave_a_filter_undecided_unless_another_fails() {
        let filter = Filter {
            local_ports: ports("40000"),
            remote: vec!["10.0.0.0/8".parse().unwrap()],
            ..Filter::default()
        };
        let judge = |local, remote| filter.judge(&facts(Role::Client, local, remote));
        assert_eq!(judge("10.0.0.1:0", "10.0.0.2:80"), None);
        assert_eq!(judge("10.0.0.1:0", "192.0.2.1:80"), Some(false));
        assert_eq!(judge("10.0.0.1:40000", "0.0.0.0:0"), None);
        assert_eq!(judge("10.0.0.1:40000", "10.0.0.2:80"), Some(true));
    }

    #[test]
    fn dual_stack_listener_is_undecided_by_family() {
        let filter = Filter { family: Some(Family::V4), ..Filter::default() };
        let judge = |local, remote| filter.judge(&facts(Role::Server, local, remote));
        assert_eq!(judge("[::]:80", "[::]:0"), None);
        assert_eq!(judge("0.0.0.0:80", "0.0.0.0:0"), Some(true));
        assert_eq!(judge("[2001:db8::1]:80", "[::]:0"), Some(false));
        assert_eq!(judge("10.0.0.1:80", "10.0.0.2:1"), Some(true));
    }

    #[test]
    fn cgroup_contains_its_descendants() {
        let of = |path: &str, kernel| Cgroup { path: path.into(), kernel };
        let slice = of("system.slice", None);
        assert_eq!(slice.judge(KnownCgroup::Path("system.slice")), Some(true));
        assert_eq!(slice.judge(KnownCgroup::Path("system.slice/a.service")), Some(true));
        assert_eq!(slice.judge(KnownCgroup::Path("system.slices")), Some(false));
        assert_eq!(of("", None).judge(KnownCgroup::Path("a")), Some(true));
        assert_eq!(slice.judge(KnownCgroup::CheckedByKernel), None);
        let known = of("a", Some(KernelCgroup { id: 1, level: 1 }));
        assert_eq!(known.judge(KnownCgroup::CheckedByKernel), Some(true));
    }
}
