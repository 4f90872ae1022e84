//! Which connections are of interest. Pure: the same filter is asked by the tracker, live or
//! replayed, and told to the kernel side, which leaves out what it can tell for certain.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};
use synfin_common::filter as abi;

use crate::{tcp::role::Role, trace::ids::NetnsId};

/// Facts that a connection must show. An empty list, and `None`, ask for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// One of these processes connected, or holds the listener.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pids: Vec<u32>,
    /// The listener's port for a server, the remote port for a client.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_ports: Vec<PortRange>,
    /// Our port.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub local_ports: Vec<PortRange>,
    /// The peer's port.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remote_ports: Vec<PortRange>,
    /// The family of the addresses; an IPv4-mapped one is IPv4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// Our address is in one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub local: Vec<Network>,
    /// The peer's address is in one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remote: Vec<Network>,
    /// It is in one of these network namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<NetnsId>,
    /// Its socket was made in this cgroup, or in one within it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Cgroup>,
    /// Which side we are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4-mapped addresses of IPv6 sockets included.
    V4,
    /// Without these.
    V6,
}

/// Ports from one to another, ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// Addresses with a common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Network(IpNet);

/// A cgroup (version 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Its path below the root, without a slash at either end.
    pub path: String,
    /// What the kernel side asks for; `None` if it cannot decide.
    pub kernel: Option<KernelCgroup>,
}

/// A cgroup as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelCgroup {
    /// Its id: the inode number of its folder.
    pub id: u64,
    /// How deep it lies below the root.
    pub level: u32,
}

/// What is known of a connection or a listener.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Its network namespace.
    pub netns: NetnsId,
    /// Which side we are.
    pub role: Role,
    /// Our end; port 0 or an unspecified address is not known.
    pub local: SocketAddr,
    /// The peer's end; likewise.
    pub remote: SocketAddr,
    /// The processes that it belongs to, as far as they are known.
    pub pids: &'a [u32],
    /// There are no others.
    pub all_pids: bool,
    /// The cgroup that its socket was made in.
    pub cgroup: KnownCgroup<'a>,
}

/// What is known of a socket's cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownCgroup<'a> {
    /// Nothing.
    Unknown,
    /// Its path, without a slash at either end.
    Path(&'a str),
    /// A record of the kernel side, which knows: it has decided, where it was asked to.
    OfRecord,
}

impl Filter {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a connection in this namespace can be of interest.
    pub fn may_be_in(&self, netns: NetnsId) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(&netns)
    }

    /// Whether the connection is of interest; `None`: the facts do not tell yet.
    pub fn judge(&self, facts: &Facts<'_>) -> Option<bool> {
        let address = |ip: IpAddr| (!ip.is_unspecified()).then_some(ip);
        let port = |port: u16| (port != 0).then_some(port);
        let service_port = facts.role.service_port(facts.local, facts.remote);
        let family = address(facts.remote.ip())
            .or(address(facts.local.ip()))
            // An unspecified IPv6 address may be a dual-stack listener's.
            .or(facts.local.is_ipv4().then_some(facts.local.ip()));
        all([
            Some(self.may_be_in(facts.netns)),
            Some(self.role.is_none_or(|role| role == facts.role)),
            any_of(&self.service_ports, port(service_port), PortRange::holds),
            any_of(&self.local_ports, port(facts.local.port()), PortRange::holds),
            any_of(&self.remote_ports, port(facts.remote.port()), PortRange::holds),
            self.family
                .map_or(Some(true), |wanted| Some(family?.is_ipv4() == (wanted == Family::V4))),
            any_of(&self.local, address(facts.local.ip()), Network::holds),
            any_of(&self.remote, address(facts.remote.ip()), Network::holds),
            self.judge_pids(facts),
            self.cgroup.as_ref().map_or(Some(true), |wanted| wanted.judge(facts.cgroup)),
        ])
    }

    fn judge_pids(&self, facts: &Facts<'_>) -> Option<bool> {
        let is_one = facts.pids.iter().any(|pid| self.pids.contains(pid));
        match self.pids.is_empty() || is_one {
            true => Some(true),
            false => facts.all_pids.then_some(false),
        }
    }

    /// What is asked for, by the names of the command line's flags.
    pub fn described(&self) -> Vec<(String, String)> {
        fn list<T: fmt::Display>(values: &[T]) -> Option<String> {
            let texts: Vec<_> = values.iter().map(T::to_string).collect();
            (!texts.is_empty()).then(|| texts.join(","))
        }
        let is = |family| (self.family == Some(family)).then(|| "yes".to_owned());
        let asked = [
            ("pid", list(&self.pids)),
            ("port", list(&self.service_ports)),
            ("localport", list(&self.local_ports)),
            ("remoteport", list(&self.remote_ports)),
            ("ipv4", is(Family::V4)),
            ("ipv6", is(Family::V6)),
            ("local", list(&self.local)),
            ("remote", list(&self.remote)),
            ("netns", list(&self.namespaces)),
            ("cgroup", self.cgroup.as_ref().map(|cgroup| format!("/{}", cgroup.path))),
            ("role", self.role.map(|role| role.name().to_owned())),
        ];
        asked.into_iter().filter_map(|(flag, value)| Some((flag.to_owned(), value?))).collect()
    }

    /// What the kernel side is told. It leaves out nothing but what this filter excludes.
    pub fn for_kernel(&self) -> abi::Filter {
        let mut filter = abi::Filter {
            local: networks(&self.local),
            remote: networks(&self.remote),
            cgroup: 0,
            cgroup_level: 0,
            active: u32::from(!self.is_empty()),
            // A later record knows neither who connected nor which port is the service's.
            remembers_excluded: u32::from(
                !self.pids.is_empty() || self.role.is_some() || !self.service_ports.is_empty(),
            ),
            family: match self.family {
                None => 0,
                Some(Family::V4) => 4,
                Some(Family::V6) => 6,
            },
            role: match self.role {
                None => 0,
                Some(Role::Client) => abi::Filter::CLIENT,
                Some(Role::Server) => abi::Filter::SERVER,
            },
            pids: numbers(&self.pids),
            namespaces: numbers(&self.namespaces),
            service_ports: ports(&self.service_ports),
            local_ports: ports(&self.local_ports),
            remote_ports: ports(&self.remote_ports),
        };
        if let Some(KernelCgroup { id, level }) = self.cgroup.as_ref().and_then(|c| c.kernel) {
            (filter.cgroup, filter.cgroup_level) = (id, level);
        }
        filter
    }
}

impl Cgroup {
    /// Whether this is the cgroup with that path, or one that it lies within.
    pub fn holds(&self, path: &str) -> bool {
        let below = path.strip_prefix(&self.path);
        let is_root = self.path.is_empty();
        is_root || below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn judge(&self, known: KnownCgroup<'_>) -> Option<bool> {
        match known {
            KnownCgroup::Unknown => None,
            KnownCgroup::OfRecord => self.kernel.is_some().then_some(true),
            KnownCgroup::Path(path) => Some(self.holds(path)),
        }
    }
}

/// False if one is, else unknown if one is.
fn all<const N: usize>(answers: [Option<bool>; N]) -> Option<bool> {
    if answers.contains(&Some(false)) {
        return Some(false);
    }
    (!answers.contains(&None)).then_some(true)
}

fn any_of<T, V: Copy>(list: &[T], value: Option<V>, holds: impl Fn(&T, V) -> bool) -> Option<bool> {
    if list.is_empty() {
        Some(true)
    } else {
        value.map(|value| list.iter().any(|item| holds(item, value)))
    }
}

/// Puts a list into what the kernel side has room for, all of it or nothing. Returns how many.
fn fill<T, U>(
    slots: &mut [U; abi::FILTER_VALUES],
    list: &[T],
    for_kernel: impl Fn(&T) -> U,
) -> usize {
    if list.len() > slots.len() {
        return 0;
    }
    for (slot, value) in slots.iter_mut().zip(list) {
        *slot = for_kernel(value);
    }
    list.len()
}

fn numbers(list: &[u32]) -> abi::Numbers {
    let mut numbers = abi::Numbers::default();
    numbers.count = fill(&mut numbers.values, list, |&value| value) as u32;
    numbers
}

fn ports(list: &[PortRange]) -> abi::Ports {
    let mut ports = abi::Ports::default();
    let range = |&PortRange { first, last }: &PortRange| abi::PortRange { first, last };
    ports.count = fill(&mut ports.ranges, list, range) as u32;
    ports
}

fn networks(list: &[Network]) -> abi::Networks {
    let mut networks = abi::Networks::default();
    networks.count = fill(&mut networks.networks, list, Network::for_kernel) as u64;
    networks
}

impl PortRange {
    pub(crate) fn holds(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| match text.trim().parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err("a port is a number from 1 to 65535, a range is two of them (8000-8099)"),
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        if first > last {
            return Err(format!("the range is empty: {first} is more than {last}"));
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

impl Network {
    fn holds(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip)
    }

    /// The network of the same length around what its address is mapped to.
    pub(crate) fn with_address(&self, map: impl FnOnce(IpAddr) -> IpAddr) -> Self {
        // An address of the same family has room for the prefix.
        let net = IpNet::new(map(self.0.network()), self.0.prefix_len());
        Self(net.map_or(self.0, |net| net.trunc()))
    }

    /// IPv4 becomes IPv4-mapped.
    fn for_kernel(&self) -> abi::Network {
        let (address, prefix) = match self.0 {
            IpNet::V6(net) => (net.network(), net.prefix_len()),
            IpNet::V4(net) => (net.network().to_ipv6_mapped(), 96 + net.prefix_len()),
        };
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
        let words = |address: u128| {
            let bytes = address.to_be_bytes();
            let word = |at| std::array::from_fn(|index| bytes[at + index]);
            [u64::from_ne_bytes(word(0)), u64::from_ne_bytes(word(8))]
        };
        abi::Network { address: words(address.to_bits()), mask: words(mask) }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = text.parse::<IpAddr>().map(IpNet::from);
        let net = one.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
            "a network is an address and the length of its prefix (10.0.0.0/8, 2001:db8::/32), or an address alone"
        })?;
        Ok(Self(unmapped(net).trunc()))
    }
}

/// Addresses are compared without their IPv4-mapped form.
fn unmapped(net: IpNet) -> IpNet {
    match net {
        IpNet::V6(net) if net.prefix_len() >= 96 => match net.addr().to_ipv4_mapped() {
            Some(address) => {
                Ipv4Net::new(address, net.prefix_len() - 96).map_or(net.into(), IpNet::V4)
            }
            None => net.into(),
        },
        net => net,
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn facts(role: Role, local: &str, remote: &str) -> Facts<'static> {
        Facts {
            netns: 1,
            role,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            pids: &[],
            all_pids: false,
            cgroup: KnownCgroup::Unknown,
        }
    }

    fn ports(list: &str) -> Vec<PortRange> {
        list.split(',').map(|range| range.parse().unwrap()).collect()
    }

    #[test]
    fn a_service_port_is_the_listeners_or_the_one_connected_to() {
        let filter = Filter { service_ports: ports("443,8000-8099"), ..Filter::default() };
        let judge = |role, local, remote| filter.judge(&facts(role, local, remote));
        assert_eq!(judge(Role::Client, "10.0.0.1:443", "10.0.0.2:80"), Some(false));
        assert_eq!(judge(Role::Client, "10.0.0.1:0", "10.0.0.2:443"), Some(true));
        assert_eq!(judge(Role::Server, "10.0.0.1:8099", "10.0.0.2:443"), Some(true));
        assert_eq!(judge(Role::Server, "10.0.0.1:80", "10.0.0.2:443"), Some(false));
    }

    #[test]
    fn what_is_not_known_yet_does_not_decide_unless_something_else_does() {
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
    fn a_mapped_network_is_its_ipv4_form() {
        let mapped: Network = "::ffff:10.1.2.3/104".parse().unwrap();
        assert_eq!(mapped, "10.0.0.0/8".parse().unwrap());
        assert!(mapped.holds(IpAddr::from(Ipv4Addr::new(10, 9, 9, 9))));
        assert!(!mapped.holds(IpAddr::from(Ipv6Addr::LOCALHOST)));
        let for_kernel = mapped.for_kernel();
        assert_eq!(for_kernel.address[0], 0);
        assert_eq!(for_kernel.address[1].to_ne_bytes(), [0, 0, 0xff, 0xff, 10, 0, 0, 0]);
        assert_eq!(for_kernel.mask[1].to_ne_bytes(), [255, 255, 255, 255, 255, 0, 0, 0]);
    }

    #[test]
    fn a_dual_stack_listener_may_be_of_either_family() {
        let filter = Filter { family: Some(Family::V4), ..Filter::default() };
        let judge = |local, remote| filter.judge(&facts(Role::Server, local, remote));
        assert_eq!(judge("[::]:80", "[::]:0"), None);
        assert_eq!(judge("0.0.0.0:80", "0.0.0.0:0"), Some(true));
        assert_eq!(judge("[2001:db8::1]:80", "[::]:0"), Some(false));
        assert_eq!(judge("10.0.0.1:80", "10.0.0.2:1"), Some(true));
    }

    #[test]
    fn a_cgroup_holds_those_within_it() {
        let of = |path: &str, kernel| Cgroup { path: path.into(), kernel };
        let slice = of("system.slice", None);
        assert_eq!(slice.judge(KnownCgroup::Path("system.slice")), Some(true));
        assert_eq!(slice.judge(KnownCgroup::Path("system.slice/a.service")), Some(true));
        assert_eq!(slice.judge(KnownCgroup::Path("system.slices")), Some(false));
        assert_eq!(of("", None).judge(KnownCgroup::Path("a")), Some(true));
        assert_eq!(slice.judge(KnownCgroup::OfRecord), None);
        let known = of("a", Some(KernelCgroup { id: 1, level: 1 }));
        assert_eq!(known.judge(KnownCgroup::OfRecord), Some(true));
    }

    #[test]
    fn a_list_that_the_kernel_side_cannot_hold_is_left_to_the_user_side() {
        let pids: Vec<u32> = (1..=abi::FILTER_VALUES as u32 + 1).collect();
        assert_eq!(numbers(&pids[1..]).count, abi::FILTER_VALUES as u32);
        assert_eq!(numbers(&pids).count, 0);
    }

    #[test]
    fn what_is_no_port_or_network_says_what_would_be() {
        for text in ["0", "70000", "http", "1-", "-1", "9-8", ""] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
        for text in ["10.0.0.0/33", "10.0.0", "::/129", "host", ""] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        assert_eq!("10.1.2.3".parse::<Network>().unwrap().to_string(), "10.1.2.3/32");
        assert_eq!("10.1.2.3/8".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
    }

    #[test]
    fn no_prefix_is_everything() {
        let everything: Network = "::/0".parse().unwrap();
        assert_eq!(everything.for_kernel(), abi::Network::default());
    }
}
