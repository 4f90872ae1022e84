//! Which sockets are of interest, as the kernel side is told.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most values that each list of a [`Filter`] holds. Longer ones are left to the user side.
pub const FILTER_VALUES: usize = 8;

/// A list of numbers; empty: any will do.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Numbers {
    /// How many of the following count.
    pub count: u32,
    /// They.
    pub values: [u32; FILTER_VALUES],
}

/// A range of ports, its ends included.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// A list of port ranges; empty: any port will do.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Ports {
    /// How many of the following count.
    pub count: u32,
    /// They.
    pub ranges: [PortRange; FILTER_VALUES],
}

/// A range of addresses: those whose bits under the mask are these. IPv4 is IPv4-mapped here.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Network {
    /// As in the packet, two words of eight bytes.
    pub address: [u64; 2],
    /// Likewise.
    pub mask: [u64; 2],
}

/// A list of networks; empty: any address will do.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Networks {
    /// How many of the following count.
    pub count: u64,
    /// They.
    pub networks: [Network; FILTER_VALUES],
}

/// Which sockets are of interest. A record that cannot decide that yet passes: the user side
/// decides later, so that no birth is lost.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Filter {
    /// Our address.
    pub local: Networks,
    /// The peer's.
    pub remote: Networks,
    /// Id of a cgroup; 0: any.
    pub cgroup: u64,
    /// How deep that cgroup lies below the root.
    pub cgroup_level: u32,
    /// 0: everything passes, and the rest of this is not looked at.
    pub active: u32,
    /// 0: every fact looked at is in each record of a life. Else some are only in its birth, and
    /// the lives that they decided against are remembered.
    pub remembers: u32,
    /// 4 or 6; 0: either.
    pub family: u32,
    /// [`Self::CLIENT`] or [`Self::SERVER`]; 0: either.
    pub role: u32,
    /// Processes that connect.
    pub pids: Numbers,
    /// Network namespaces.
    pub namespaces: Numbers,
    /// The listener's port for a server, the remote port for a client.
    pub service_ports: Ports,
    /// Our port.
    pub local_ports: Ports,
    /// The peer's.
    pub remote_ports: Ports,
}

impl Filter {
    /// Everything passes.
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
            remembers: 0,
            family: 0,
            role: 0,
            pids: numbers,
            namespaces: numbers,
            service_ports: ports,
            local_ports: ports,
            remote_ports: ports,
        }
    };
    /// [`Self::role`] of the side that connects.
    pub const CLIENT: u32 = 1;
    /// [`Self::role`] of the side that listens.
    pub const SERVER: u32 = 2;
}
