//! What the tracker is given, typed. All of it comes out of [`crate::decode`], live or replayed.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use synfin_common::{
    event::{Flags, Kind},
    reset::ResetReason,
    state::TcpState,
};

use crate::{filter::Filter, sight::Extra};

/// `CLOCK_MONOTONIC` in nanoseconds: the time of all input.
pub type Nanos = u64;

/// As long as this; what is too long, as long as can be.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A socket's kernel address. Reused by later sockets, so it names one only while that one lives.
pub type SockId = u64;

/// Inode number of a network namespace.
pub type NetnsId = u32;

/// One piece of input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A socket changed its state.
    Transition(Transition),
    /// A reset arrived for a socket, or was sent for it.
    Reset(Reset),
    /// A socket that is about to end was due a TIME_WAIT.
    TimeWaitEntry(TimeWaitEntry),
    /// Something befell a TIME_WAIT.
    TimeWaitChange(TimeWaitChange),
    /// accept() took a connection.
    Accepted(Accepted),
    /// A walk over a namespace's sockets is about to begin.
    WalkBegin(WalkBegin),
    /// The walk met a socket that is not in TIME_WAIT.
    Socket(WalkedSocket),
    /// The walk met a socket in TIME_WAIT.
    TimeWait(WalkedTimeWait),
    /// The walk is over, and all records older than its end have been given.
    WalkEnd(WalkEnd),
    /// Who has which TCP sockets open, as a look at all open files shows it.
    Holders(Vec<Holder>),
    /// Names of what the kernel numbers.
    Names(Names),
    /// Time passes; what the kernel side has counted by now.
    Tick(Tick),
    /// A record of a kind or a content that this version does not know was skipped.
    UnreadableRecord,
    /// The same of a walk; the rest of it is not understood either.
    UnreadableSocket,
}

/// One (old state, new state) of one socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// When.
    pub time: Nanos,
    /// The socket.
    pub sock: SockId,
    /// Its namespace.
    pub netns: NetnsId,
    /// The state that it left.
    pub old: TcpState,
    /// The state that it entered.
    pub new: TcpState,
    /// Our end. Port 0: not chosen yet.
    pub local: SocketAddr,
    /// The peer's end. Port 0: the kernel did not know it yet.
    pub remote: SocketAddr,
    /// Facts of one bit.
    pub flags: Flags,
    /// `sk_err`, an errno or 0.
    pub err: u8,
    /// `sk_err_soft`, the last ICMP error that did not end the connection, or 0.
    pub err_soft: u8,
    /// The process that made the transition, if it was the socket's owner.
    pub pid: Option<u32>,
    /// Round trip in microseconds, or the time since the first SYN-ACK
    /// ([`Flags::SINCE_FIRST_SYNACK`]).
    pub rtt_us: u32,
    /// Retransmission timer expiries in a row.
    pub retransmits: u8,
    /// Probes not answered.
    pub probes: u8,
    /// Segments retransmitted so far.
    pub total_retransmits: u32,
    /// What only a birth knows.
    pub opening: Option<Opening>,
    /// What only an end knows.
    pub closing: Option<Closing>,
}

/// A reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// When.
    pub time: Nanos,
    /// For which socket.
    pub sock: SockId,
    /// Which way it went.
    pub way: ResetWay,
}

/// Which way a reset went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetWay {
    /// The kernel accepted it; or it treats data that came after close() likewise.
    Received,
    /// We sent it.
    Sent {
        /// Why.
        reason: ResetReason,
        /// It answers a segment.
        answer: bool,
    },
}

/// A socket that is about to end was due a TIME_WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWaitEntry {
    /// When.
    pub time: Nanos,
    /// The socket.
    pub sock: SockId,
    /// What it left behind.
    pub remains: Remains,
}

/// What a socket leaves behind that was due a TIME_WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remains {
    /// A TIME_WAIT.
    TimeWait,
    /// An orphan in FIN_WAIT2, which becomes one when the peer closes.
    FinWait2,
    /// Nothing: the kernel's table is full.
    Nothing,
}

/// Something befell what remains of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWaitChange {
    /// When.
    pub time: Nanos,
    /// Its namespace.
    pub netns: NetnsId,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// It is gone; otherwise it was an orphan in FIN_WAIT2, and the peer's FIN has come.
    pub is_gone: bool,
}

/// accept() took a connection out of its listener's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// When.
    pub time: Nanos,
    /// The connection.
    pub sock: SockId,
}

/// The name of a process as the kernel has it, at most 15 bytes: any but 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Comm(pub [u8; 16]);

impl Comm {
    /// Up to the first 0.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|&byte| byte == 0).next().unwrap_or_default()
    }
}

impl<T: AsRef<[u8]> + ?Sized> From<&T> for Comm {
    /// What is longer is cut off.
    fn from(name: &T) -> Self {
        let mut comm = Self::default();
        comm.0.iter_mut().zip(name.as_ref()).for_each(|(to, &from)| *to = from);
        comm
    }
}

/// What only a birth knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Cgroup id, 0 if unknown.
    pub cgroup: u64,
    /// The listener's accept queue and its limit, when a child was born of it. Of a socket that
    /// begins to listen, the first is all that it has dropped before.
    pub accept_queue: (u32, u32),
    /// The owning process's name, if it made the transition: as the kernel has it, so it may
    /// hold any bytes but NUL.
    pub comm: Comm,
}

/// What only an end knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Sequence space that the peer acknowledged (SYN and FIN count).
    pub bytes_acked: u64,
    /// Sequence space received (a FIN counts).
    pub bytes_received: u64,
    /// Bytes received that nobody read; of a listener, all that it dropped.
    pub unread: u32,
    /// Milliseconds since the last segment was received.
    pub idle_ms: Option<u32>,
}

/// A walk is about to begin: given before the walker starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkBegin {
    /// The namespace to be walked.
    pub netns: NetnsId,
    /// When this was decided.
    pub time: Nanos,
}

/// A walk is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkEnd {
    /// The namespace.
    pub netns: NetnsId,
    /// When the walker began.
    pub begun: Nanos,
    /// When it was through.
    pub ended: Nanos,
    /// Why it could not be walked, or not to its end; then it tells of no absence.
    pub error: Option<String>,
    /// How the namespace gives out ports, if that could be read.
    #[serde(default)]
    pub ephemeral_ports: Option<EphemeralPorts>,
    /// What the kernel itself has counted there, if that could be read.
    #[serde(default)]
    pub counters: Option<KernelCounters>,
}

/// Counters of `/proc/net/netstat` that say what befell handshakes and TIME_WAIT, of which no
/// record tells; by the kernel's names.
pub const KERNEL_COUNTERS: [&str; 5] =
    ["ListenOverflows", "ListenDrops", "SyncookiesSent", "EmbryonicRsts", "TCPTimeWaitOverflow"];

/// [`KERNEL_COUNTERS`] of a namespace, at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelCounters {
    /// When they were read.
    pub time: Nanos,
    /// In their order.
    pub counts: [u64; KERNEL_COUNTERS.len()],
}

impl KernelCounters {
    /// The place of `TCPTimeWaitOverflow`.
    pub const TIME_WAIT_OVERFLOW: usize = 4;

    /// By how much each has grown.
    pub fn since(&self, before: &Self) -> [u64; KERNEL_COUNTERS.len()] {
        std::array::from_fn(|index| self.counts[index].saturating_sub(before.counts[index]))
    }
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
    pub reuse: Reuse,
    /// Milliseconds that it must have been there (`tcp_tw_reuse_delay`).
    pub reuse_after_ms: u32,
}

/// When a port in TIME_WAIT may be taken for a new connection to the same destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reuse {
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
    pub fn contain(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// A socket that a walk met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkedSocket {
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

/// A socket in TIME_WAIT that a walk met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkedTimeWait {
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
pub struct Holder {
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

/// Names of what the kernel numbers, given before a number is used for the first time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Names {
    /// Cgroups by id.
    pub cgroups: BTreeMap<u64, CgroupName>,
    /// Network namespaces by inode number.
    pub namespaces: BTreeMap<NetnsId, String>,
}

impl Names {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.cgroups.is_empty() && self.namespaces.is_empty()
    }
}

/// What is known of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupName {
    /// Its path below the root, without a slash at either end; any characters.
    pub path: String,
    /// The container that it is, if its path says so.
    pub container: Option<Container>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Container {
    /// As its runtime names it.
    pub id: String,
    /// Its Kubernetes pod: `namespace/name`, or its uid if the node does not tell its name.
    pub pod: Option<String>,
}

/// Time passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// Now.
    pub time: Nanos,
    /// What the kernel side has counted, read after all records before were given.
    pub counters: Counters,
    /// What was counted per port since the last tick.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortCount>,
}

/// What was counted at a port, and makes no records because a stranger decides how often it
/// happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortCount {
    /// The network namespace; 0 where there was no room to tell.
    pub netns: NetnsId,
    /// Our port; likewise.
    pub port: u16,
    /// A number of [`synfin_common::port_count::PortEvent`].
    pub counted: u16,
    /// How many.
    pub count: u64,
}

/// What the kernel side counts, since it was attached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Records that a hook wanted to write, by [`Kind`].
    #[serde(deserialize_with = "by_kind")]
    pub seen: [u64; Kind::COUNT],
    /// Of these, those for which the ring buffer had no room.
    #[serde(deserialize_with = "by_kind")]
    pub lost: [u64; Kind::COUNT],
    /// Of these, those that the filter left out.
    #[serde(default, deserialize_with = "by_kind")]
    pub filtered: [u64; Kind::COUNT],
    /// Runs of a hook that the kernel skipped.
    pub missed: u64,
}

/// Counts by [`Kind`]: older recordings have fewer kinds.
fn by_kind<'de, D: Deserializer<'de>>(from: D) -> Result<[u64; Kind::COUNT], D::Error> {
    let counts = Vec::<u64>::deserialize(from)?;
    if counts.len() > Kind::COUNT {
        return Err(D::Error::invalid_length(counts.len(), &"one count of each kind of record"));
    }
    Ok(std::array::from_fn(|kind| counts.get(kind).copied().unwrap_or(0)))
}

impl Counters {
    /// With what was counted before.
    pub(crate) fn and(&self, more: &Self) -> Self {
        let sum = |counts: &[u64; Kind::COUNT], more: &[u64; Kind::COUNT]| {
            std::array::from_fn(|kind| counts[kind].saturating_add(more[kind]))
        };
        Self {
            seen: sum(&self.seen, &more.seen),
            lost: sum(&self.lost, &more.lost),
            filtered: sum(&self.filtered, &more.filtered),
            missed: self.missed.saturating_add(more.missed),
        }
    }

    /// Records of all kinds: seen, and of these lost and filtered.
    pub fn totals(&self) -> [u64; 3] {
        let sum = |counts: &[u64]| counts.iter().copied().fold(0, u64::saturating_add);
        [sum(&self.seen), sum(&self.lost), sum(&self.filtered)]
    }
}

/// The circumstances of a trace: a recording's first frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Version of the synfin that traced.
    pub synfin: String,
    /// The host's name.
    pub host: String,
    /// The kernel's release, as `uname -r` says it.
    pub kernel: String,
    /// The same moment by two clocks.
    pub clock: ClockAnchor,
    /// Names of the hooks that ran.
    pub hooks: Vec<String>,
    /// What the kernel showed that not every kernel does: names of [`Extra`]. Recordings that do
    /// not say were made where it told of resets.
    #[serde(default = "resets_only")]
    pub shown: Vec<String>,
    /// What is unknown, and why.
    pub limitations: Vec<String>,
    /// Size of the ring buffer.
    pub ring_bytes: u32,
    /// System settings that matter to what is seen.
    pub sysctls: BTreeMap<String, String>,
    /// What was left out.
    #[serde(default)]
    pub filter: Filter,
    /// Network namespaces that have a name, by inode number.
    #[serde(default)]
    pub namespaces: BTreeMap<NetnsId, String>,
}

impl Session {
    /// Whether both are of one trace, whose dates all come of one moment that two clocks told.
    pub(crate) fn is_of_same_run(&self, other: &Self) -> bool {
        let offset = |session: &Self| {
            let ClockAnchor { monotonic_ns, realtime_ns } = session.clock;
            realtime_ns.wrapping_sub(monotonic_ns)
        };
        offset(self) == offset(other) && self.host == other.host
    }
}

fn resets_only() -> Vec<String> {
    vec![Extra::Resets.name().to_owned()]
}

/// What the first process's network namespace is called.
pub const HOST_NETNS: &str = "host";

/// The same moment by two clocks, to tell the date of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockAnchor {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub monotonic_ns: u64,
    /// Nanoseconds since 1970, UTC.
    pub realtime_ns: u64,
}

impl ClockAnchor {
    /// The date of `time`.
    pub fn date(&self, time: Nanos) -> std::time::SystemTime {
        std::time::UNIX_EPOCH + std::time::Duration::from_nanos(self.since_1970(time))
    }

    /// The same in nanoseconds since 1970, UTC.
    pub fn since_1970(&self, time: Nanos) -> Nanos {
        let offset = i128::from(time) - i128::from(self.monotonic_ns);
        let since_1970 = (i128::from(self.realtime_ns) + offset).max(0);
        u64::try_from(since_1970).unwrap_or(u64::MAX)
    }
}

/// An address as synfin shows and compares it: an IPv4-mapped one is its IPv4 form.
pub(crate) fn endpoint(ipv6: bool, bytes: [u8; 16], port: u16) -> SocketAddr {
    let address = if ipv6 {
        IpAddr::from(bytes).to_canonical()
    } else {
        IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])
    };
    SocketAddr::new(address, port)
}
