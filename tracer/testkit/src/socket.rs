//! A socket of the fake kernel, and what records and scans contain of it.

use std::net::SocketAddr;

use synfin::{
    tcp::role::Role,
    trace::{
        accept_queue::AcceptQueue,
        event::{Closing, Transition},
        ids::{NetnsId, SockId},
        scan::ScannedSocket,
        time::Nanos,
    },
};
use synfin_common::{
    event::Flags,
    state::TcpState::{
        self, Close, CloseWait, Established, FinWait1, FinWait2, LastAck, SynRecv, SynSent,
    },
};

use crate::{HERE, HOST_NETNS, ROUND_TRIP_US};

/// The cgroup of all sockets.
pub(crate) const CGROUP: u64 = 1;

/// A socket with the endpoints that it has once connected.
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    /// The address in kernel memory.
    pub id: SockId,
    /// The network namespace.
    pub netns: NetnsId,
    /// Whether it is a client, or a listener or a child of one.
    pub role: Role,
    /// The local endpoint.
    pub local: SocketAddr,
    /// The remote endpoint; unspecified for a listener.
    pub remote: SocketAddr,
}

/// Parses an address and a port.
///
/// # Panics
///
/// If the text is not `ADDRESS:PORT`.
#[must_use]
pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("ADDRESS:PORT")
}

/// A plausible address in kernel memory.
#[must_use]
pub fn socket_id(number: u64) -> SockId {
    0xffff_8880_0000_0000 + number * 0x1000
}

/// The states that a connection can enter next.
#[must_use]
pub fn next_states(state: TcpState) -> &'static [TcpState] {
    match state {
        SynSent => &[Established, SynRecv, Close],
        SynRecv => &[Established, FinWait1, Close],
        Established => &[FinWait1, CloseWait, Close],
        FinWait1 => &[FinWait2, TcpState::Closing, Close],
        CloseWait => &[LastAck, Close],
        _ => &[Close],
    }
}

impl Socket {
    /// A socket in the host's namespace with these endpoints.
    #[must_use]
    pub fn between(number: u64, local: &str, remote: &str) -> Self {
        let (local, remote) = (address(local), address(remote));
        Self { id: socket_id(number), netns: HOST_NETNS, role: Role::Client, local, remote }
    }

    /// A client of 192.0.2.80:443 with this local port.
    #[must_use]
    pub fn client(id: SockId, port: u16) -> Self {
        let local = SocketAddr::from(([192, 0, 2, 1], port));
        Self { id, netns: HERE, role: Role::Client, local, remote: address("192.0.2.80:443") }
    }

    /// A connection accepted from a listener on this port.
    #[must_use]
    pub fn child(id: SockId, port: u16) -> Self {
        let remote = address("198.51.100.7:50000");
        Self { role: Role::Server, remote, ..Self::client(id, port) }
    }

    /// A listener on this port.
    #[must_use]
    pub fn listener(id: SockId, port: u16) -> Self {
        let local = SocketAddr::from(([0, 0, 0, 0], port));
        Self { local, remote: address("0.0.0.0:0"), ..Self::child(id, port) }
    }

    /// The socket as its first record shows it up to Linux 6.14: a client without its port, and a
    /// child with its listener's endpoints.
    #[must_use]
    pub fn unbound(self) -> Self {
        let (mut local, mut remote) = (self.local, self.remote);
        match self.role {
            Role::Client | Role::Unknown => local.set_port(0),
            Role::Server => {
                local.set_ip([0, 0, 0, 0].into());
                remote = address("0.0.0.0:0");
            }
        }
        Self { local, remote, ..self }
    }

    /// The address family flags of its addresses.
    #[must_use]
    pub fn family(self) -> Flags {
        if self.local.is_ipv6() { Flags::IPV6 } else { Flags::default() }
    }

    /// A transition without evidence; a last transition counts no bytes.
    #[must_use]
    pub fn transition(self, time: Nanos, (old, new): (TcpState, TcpState)) -> Transition {
        Transition {
            time,
            sock: self.id,
            netns: self.netns,
            old,
            new,
            local: self.local,
            remote: self.remote,
            flags: self.family(),
            err: 0,
            err_soft: 0,
            pid: None,
            rtt_us: if new == Established { ROUND_TRIP_US } else { 0 },
            retransmits: 0,
            probes: 0,
            total_retransmits: 0,
            mptcp: None,
            opening: None,
            closing: (new == Close).then(|| closing(0, 0)),
        }
    }

    /// The result of a scan that finds it.
    #[must_use]
    pub fn scanned(self, state: TcpState) -> ScannedSocket {
        ScannedSocket {
            time: 0,
            sock: self.id,
            state,
            local: self.local,
            remote: self.remote,
            flags: self.family(),
            port_by_connect: None,
            retransmits: 0,
            rtt_us: 0,
            accept_queue: AcceptQueue { depth: 0, limit: 128 },
            drops: 0,
            idle_ms: None,
            cgroup: CGROUP,
            mptcp: None,
            data_received_ms: None,
            data_sent_ms: None,
            port_range: None,
            min_rtt_us: None,
            transfer: None,
        }
    }
}

/// The byte counts of a last record.
#[must_use]
pub fn closing(bytes_acked: u64, bytes_received: u64) -> Closing {
    Closing { bytes_acked, bytes_received, ..Closing::default() }
}
