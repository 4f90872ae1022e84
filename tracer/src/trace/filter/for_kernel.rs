//! The filter in the layout of the eBPF programs.

use ipnet::IpNet;
use synfin_common::filter as abi;

use super::{Family, Filter, KernelCgroup, Network, PortRange};
use crate::tcp::role::Role;

impl Filter {
    /// The filter for the eBPF programs. It excludes no connection that this filter includes.
    pub fn for_kernel(&self) -> abi::Filter {
        let mut filter = abi::Filter {
            local: networks(&self.local),
            remote: networks(&self.remote),
            cgroup: 0,
            cgroup_level: 0,
            active: u32::from(!self.is_empty()),
            // Later records contain neither the process that connected nor the service port.
            remembers_excluded: u32::from(
                !self.pids.is_empty() || self.role.is_some() || !self.service_ports.is_empty(),
            ),
            family: match self.family {
                None => 0,
                Some(Family::V4) => 4,
                Some(Family::V6) => 6,
            },
            role: match self.role {
                None | Some(Role::Unknown) => 0,
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

/// Copies a list into the slots, or nothing if the list is too long: then only the tracker applies it.
/// Returns the number of copied values.
fn fill<T, U>(
    slots: &mut [U; abi::FILTER_VALUES],
    list: &[T],
    for_kernel: impl Fn(&T) -> U,
) -> u32 {
    if list.len() > slots.len() {
        return 0;
    }
    for (slot, value) in slots.iter_mut().zip(list) {
        *slot = for_kernel(value);
    }
    u32::try_from(list.len()).unwrap_or(0)
}

fn numbers(list: &[u32]) -> abi::Numbers {
    let mut numbers = abi::Numbers::default();
    numbers.count = fill(&mut numbers.values, list, |&value| value);
    numbers
}

fn ports(list: &[PortRange]) -> abi::Ports {
    let mut ports = abi::Ports::default();
    let range = |&PortRange { first, last }: &PortRange| abi::PortRange { first, last };
    ports.count = fill(&mut ports.ranges, list, range);
    ports
}

fn networks(list: &[Network]) -> abi::Networks {
    let mut networks = abi::Networks::default();
    networks.count = fill(&mut networks.networks, list, Network::for_kernel).into();
    networks
}

impl Network {
    /// The network, with IPv4 as IPv4-mapped.
    fn for_kernel(&self) -> abi::Network {
        let (address, prefix) = match self.0 {
            IpNet::V6(net) => (net.network(), net.prefix_len()),
            IpNet::V4(net) => (net.network().to_ipv6_mapped(), 96 + net.prefix_len()),
        };
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
        let words = |address: u128| {
            let bytes = address.to_be_bytes();
            let word = |start| std::array::from_fn(|index| bytes[start + index]);
            [u64::from_ne_bytes(word(0)), u64::from_ne_bytes(word(8))]
        };
        abi::Network { address: words(address.to_bits()), mask: words(mask) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation, reason = "filters have few values")]

    use super::*;

    #[test]
    fn ipv4_network_becomes_ipv4_mapped() {
        let network: Network = "10.0.0.0/8".parse().unwrap();
        let for_kernel = network.for_kernel();
        assert_eq!(for_kernel.address[0], 0);
        assert_eq!(for_kernel.address[1].to_ne_bytes(), [0, 0, 0xff, 0xff, 10, 0, 0, 0]);
        assert_eq!(for_kernel.mask[1].to_ne_bytes(), [255, 255, 255, 255, 255, 0, 0, 0]);
    }

    #[test]
    fn too_long_list_is_left_to_the_tracker() {
        let pids: Vec<u32> = (1..=abi::FILTER_VALUES as u32 + 1).collect();
        assert_eq!(numbers(&pids[1..]).count, abi::FILTER_VALUES as u32);
        assert_eq!(numbers(&pids).count, 0);
    }

    #[test]
    fn empty_prefix_matches_everything() {
        let everything: Network = "::/0".parse().unwrap();
        assert_eq!(everything.for_kernel(), abi::Network::default());
    }
}
