//! Scans of the sockets of a network namespace: begin, end, and the sockets found.

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use synfin_common::{event::Flags, state::TcpState};
use zerocopy::IntoBytes as _;

use super::accept_queue::AcceptQueue;
use crate::trace::{
    counters::KernelCounters,
    ids::{Comm, MptcpId, NetnsId, SockId},
    time::Nanos,
    wire,
};

/// A scan was requested and has not started yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanBegin {
    /// The namespace to be scanned.
    pub netns: NetnsId,
    /// When the scan was requested.
    pub time: Nanos,
}

/// A scan is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanEnd {
    /// The namespace that was scanned.
    pub netns: NetnsId,
    /// When the scanner started.
    #[serde(rename = "begun")]
    pub started: Nanos,
    /// When the scanner finished.
    pub ended: Nanos,
    /// Why the scan failed; then sockets that it did not find may still exist. `None` on success.
    pub error: Option<String>,
    /// The ephemeral ports of the namespace; `None` if they could not be read.
    #[serde(default)]
    pub ephemeral_ports: Option<EphemeralPorts>,
    /// The kernel's counters of the namespace; `None` if they could not be read.
    #[serde(default)]
    pub counters: Option<KernelCounters>,
}

impl ScanEnd {
    /// A scan that has started, and has found nothing yet.
    #[cfg(feature = "live")]
    pub(crate) fn started(netns: NetnsId, started: Nanos) -> Self {
        let (error, ephemeral_ports, counters) = Default::default();
        Self { netns, started, ended: started, error, ephemeral_ports, counters }
    }
}

/// The network namespaces of the host, if all of them were found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceList {
    /// When the list was begun. Later namespaces are missing.
    pub time: Nanos,
    /// The namespaces that a process is in or that a mount keeps alive.
    pub namespaces: Vec<NetnsId>,
}

/// The ports that a namespace assigns to connecting sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EphemeralPorts {
    /// The lowest port (`ip_local_port_range`).
    pub first: u16,
    /// The highest port.
    pub last: u16,
    /// The number of excluded ports in this range (`ip_local_reserved_ports`).
    pub reserved: u16,
    /// When a new connection may reuse a port in TIME_WAIT (`tcp_tw_reuse`).
    pub reuse: TimeWaitReuse,
    /// Milliseconds in TIME_WAIT after which the port may be reused (`tcp_tw_reuse_delay`).
    pub reuse_after_ms: u32,
}

/// When a new connection to the same destination may reuse a port in TIME_WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeWaitReuse {
    /// Never.
    Never,
    /// For loopback destinations only.
    Loopback,
    /// Always.
    Always,
}

impl EphemeralPorts {
    /// The number of ephemeral ports.
    pub fn count(&self) -> u32 {
        let all = (u32::from(self.last) + 1).saturating_sub(self.first.into());
        all.saturating_sub(self.reserved.into())
    }

    /// Whether the port is in the range. Reserved ports are included.
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// A socket that a scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedSocket {
    /// When the scan found it.
    pub time: Nanos,
    /// The socket.
    pub sock: SockId,
    /// Its state.
    pub state: TcpState,
    /// The local endpoint.
    pub local: SocketAddr,
    /// The remote endpoint.
    pub remote: SocketAddr,
    /// See [`Flags`].
    pub flags: Flags,
    /// Whether connect() chose the local port, which proves a client; `None` if unknown.
    pub port_by_connect: Option<bool>,
    /// Consecutive expiries of the retransmission timer (`icsk_retransmits`).
    pub retransmits: u8,
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: u32,
    /// A listener's accept queue.
    pub accept_queue: AcceptQueue,
    /// The number of connections that a listener has dropped so far (`sk_drops`).
    pub drops: u32,
    /// Milliseconds since the last segment was received; `None` if unknown.
    pub idle_ms: Option<u32>,
    /// Id of the socket's cgroup; 0 if unknown.
    pub cgroup: u64,
    /// The MPTCP connection of a subflow.
    pub mptcp: Option<MptcpId>,
    /// Milliseconds since data was received last, or since the handshake if none was; `None` if unknown.
    pub data_received_ms: Option<u32>,
    /// Milliseconds since data was sent last, or since the handshake if none was; `None` if unknown.
    pub data_sent_ms: Option<u32>,
    /// The lowest and the highest port that connect() may choose, if the socket has a range of its own
    /// (`IP_LOCAL_PORT_RANGE`).
    pub port_range: Option<(u16, u16)>,
    /// The smallest recent round-trip time in microseconds; `None` if none was measured or recorded.
    pub min_rtt_us: Option<u32>,
    /// What it has transferred; `None` if that was not recorded.
    pub transfer: Option<Transfer>,
}

/// What a socket has sent and received so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Segments retransmitted, SYNs included (`total_retrans`).
    pub total_retransmits: u32,
    /// Segments with data that were sent, again or for the first time (`data_segs_out`).
    pub segments_sent: u32,
    /// Sequence space that the peer acknowledged; SYN and FIN count one each (`bytes_acked`).
    pub bytes_acked: u64,
    /// Sequence space received; a FIN counts one (`bytes_received`).
    pub bytes_received: u64,
}

/// A socket in TIME_WAIT that a scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedTimeWait {
    /// Whether this is an orphan in FIN_WAIT2, which the kernel keeps in the same table.
    pub fin_wait2: bool,
    /// Whether connect() chose the local port, which proves a client; `None` if unknown.
    pub port_by_connect: Option<bool>,
    /// The local endpoint.
    pub local: SocketAddr,
    /// The remote endpoint.
    pub remote: SocketAddr,
    /// Milliseconds until the kernel frees it.
    pub remaining_ms: u32,
}

/// The processes that have TCP sockets open, in the format of the scan of open files. A busy host has a
/// million such sockets, so they are read one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketHolders(pub(crate) Bytes);

impl SocketHolders {
    /// Each socket with each of its holders.
    pub fn iter(&self) -> impl Iterator<Item = SocketHolder> {
        wire::socket_holders(&self.0).map(|record| SocketHolder {
            time: record.time,
            sock: record.sock,
            started: record.start_time,
            pid: record.pid,
            parent: record.parent,
            comm: Comm::from(&record.comm),
            cgroup: record.cgroup,
        })
    }
}

impl FromIterator<SocketHolder> for SocketHolders {
    fn from_iter<T: IntoIterator<Item = SocketHolder>>(holders: T) -> Self {
        let record = |holder: SocketHolder| wire::SocketHolder {
            sock: holder.sock,
            time: holder.time,
            start_time: holder.started,
            cgroup: holder.cgroup,
            pid: holder.pid,
            parent: holder.parent,
            comm: holder.comm.0,
        };
        let records = holders.into_iter().map(record);
        Self(records.flat_map(|record| record.as_bytes().to_vec()).collect())
    }
}

/// A TCP socket and one of the processes that have it open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketHolder {
    /// When the scan of open files found it.
    pub time: Nanos,
    /// The socket.
    pub sock: SockId,
    /// When the process started; 0 if unknown.
    pub started: Nanos,
    /// The process id.
    pub pid: u32,
    /// The id of its parent process.
    pub parent: u32,
    /// Its name.
    pub comm: Comm,
    /// Id of its cgroup; 0 if unknown.
    pub cgroup: u64,
}
