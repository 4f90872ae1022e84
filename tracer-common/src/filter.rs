//! The user's filter on sockets, as far as the kernel side applies it: a read-only global that the
//! loader sets.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The capacity of each list of a [`Filter`]. Only the user side applies longer lists.
pub const FILTER_VALUES: usize = 8;

/// A list of numbers; empty if all numbers match.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Numbers {
    /// How many elements of `values` are used.
    pub count: u32,
    /// The numbers.
    pub values: [u32; FILTER_VALUES],
}

/// An inclusive range of ports.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
}

/// A list of port ranges; empty if all ports match.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Ports {
    /// How many elements of `ranges` are used.
    pub count: u32,
    /// The ranges.
    pub ranges: [PortRange; FILTER_VALUES],
}

/// A network: all addresses that equal `address` in the bits of `mask`. IPv4 networks are
/// IPv4-mapped.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Network {
    /// The address in network byte order, as two words of eight bytes.
    pub address: [u64; 2],
    /// The mask, in the same form.
    pub mask: [u64; 2],
}

/// A list of networks; empty if all addresses match.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Networks {
    /// How many elements of `networks` are used.
    pub count: u64,
    /// The networks.
    pub networks: [Network; FILTER_VALUES],
}

/// A filter that sockets must match in every field. A record that cannot decide whether its socket
/// matches passes, so that no first record is lost; the user side decides later.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Filter {
    /// Networks of the local address.
    pub local: Networks,
    /// Networks of the remote address.
    pub remote: Networks,
    /// Id of the cgroup (version 2); 0 for any.
    pub cgroup: u64,
    /// The depth of that cgroup below the root.
    pub cgroup_level: u32,
    /// 0 if everything passes; then no other field is read.
    pub active: u32,
    /// 0 if every record of a socket has the facts that the filter needs. Otherwise only the first
    /// record has some of them, and the kernel side remembers the sockets that it excluded then.
    pub remembers_excluded: u32,
    /// The IP version, 4 or 6; 0 for both.
    pub family: u32,
    /// [`Self::CLIENT`] or [`Self::SERVER`]; 0 for both.
    pub role: u32,
    /// Ids of the processes that call connect().
    pub pids: Numbers,
    /// Inode numbers of network namespaces.
    pub namespaces: Numbers,
    /// The service's port: the local port of a server, the remote port of a client.
    pub service_ports: Ports,
    /// The local port.
    pub local_ports: Ports,
    /// The remote port.
    pub remote_ports: Ports,
}

impl Filter {
    /// A filter that everything passes.
    pub const NONE: Self = {
        let numbers = Numbers { count: 0, values: [0; FILTER_VALUES] };
        let ports = Ports { count: 0, ranges: [PortRange { first: 0, last: 0 }; FILTER_VALUES] };
        let network = Network { address: [0; 2], mask: [0; 2] };
        let networks = Networks { count: 0, networks: [network; FILTER_VALUES] };
        Self {
            local: networks,
            remote: networks,
            cgroup: 0,
            cgroup_level: 0,
            active: 0,
            remembers_excluded: 0,
            family: 0,
            role: 0,
            pids: numbers,
            namespaces: numbers,
            service_ports: ports,
            local_ports: ports,
            remote_ports: ports,
        }
    };
    /// [`Self::role`]: the side that connects.
    pub const CLIENT: u32 = 1;
    /// [`Self::role`]: the side that listens.
    pub const SERVER: u32 = 2;
}
