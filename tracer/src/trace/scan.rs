//! What a scan over the sockets of a network namespace finds, and where it begins and ends.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use synfin_common::{event::Flags, state::TcpState};

use crate::trace::{
    counters::KernelCounters,
    ids::{Comm, NetnsId, SockId},
    time::Nanos,
};

/// A scan is about to begin: given before the scanner starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanBegin {
    /// The namespace to be scanned.
    pub netns: NetnsId,
    /// When this was decided.
    pub time: Nanos,
}

/// A scan is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanEnd {
    /// The namespace.
    pub netns: NetnsId,
    /// When the scanner began.
    pub begun: Nanos,
    /// When it was through.
    pub ended: Nanos,
    /// Why it could not be scanned, or not to its end; then it tells of no absence.
    pub error: Option<String>,
    /// How the namespace gives out ports, if that could be read.
    #[serde(default)]
    pub ephemeral_ports: Option<EphemeralPorts>,
    /// What the kernel itself has counted there, if that could be read.
    #[serde(default)]
    pub counters: Option<KernelCounters>,
}

/// How a namespace gives out ports to those who connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EphemeralPorts {
    /// The lowest (`ip_local_port_range`).
    pub first: u16,
    /// The highest.
    pub last: u16,
    /// How many of these are left out (`ip_local_reserved_ports`).
    pub reserved: u16,
    /// When a port in TIME_WAIT may be taken for a new connection (`tcp_tw_reuse`).
    pub reuse: TimeWaitReuse,
    /// Milliseconds that it must have been there (`tcp_tw_reuse_delay`).
    pub reuse_after_ms: u32,
}

/// When a port in TIME_WAIT may be taken for a new connection to the same destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeWaitReuse {
    /// Never.
    Never,
    /// On loopback.
    Loopback,
    /// Always.
    Always,
}

impl EphemeralPorts {
    /// How many there are.
    pub fn count(&self) -> u32 {
        let all = (u32::from(self.last) + 1).saturating_sub(self.first.into());
        all.saturating_sub(self.reserved.into())
    }

    /// Whether this port is one.
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// A socket that a scan met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedSocket {
    /// When.
    pub time: Nanos,
    /// The socket.
    pub sock: SockId,
    /// Its state.
    pub state: TcpState,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// Facts of one bit.
    pub flags: Flags,
    /// Whether connect() chose its port; `None` if the kernel does not show it.
    pub port_by_connect: Option<bool>,
    /// Retransmission timer expiries in a row.
    pub retransmits: u8,
    /// Smoothed round trip, microseconds.
    pub rtt_us: u32,
    /// A listener's queue of connections that wait for accept(), and its limit.
    pub accept_queue: (u32, u32),
    /// All that a listener has dropped.
    pub drops: u32,
    /// Milliseconds since the last segment was received.
    pub idle_ms: Option<u32>,
    /// Cgroup id, 0 if unknown.
    pub cgroup: u64,
}

/// A socket in TIME_WAIT that a scan met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedTimeWait {
    /// In truth an orphan in FIN_WAIT2.
    pub fin_wait2: bool,
    /// Whether connect() chose its port; `None` if the kernel does not show it.
    pub port_by_connect: Option<bool>,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// Milliseconds until it is freed.
    pub remaining_ms: u32,
}

/// A process that has a TCP socket open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketHolder {
    /// When this was seen.
    pub time: Nanos,
    /// The socket.
    pub sock: SockId,
    /// When the process was made; 0 if unknown.
    pub born: Nanos,
    /// The process.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// Its name: as the kernel has it, so it may hold any bytes but NUL.
    pub comm: Comm,
    /// Its cgroup's id, 0 if unknown.
    pub cgroup: u64,
}
