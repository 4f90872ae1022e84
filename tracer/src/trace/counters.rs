//! Counters of the eBPF programs and of the kernel, and the tick that delivers them.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use synfin_common::event::Kind;

use crate::trace::{ids::NetnsId, time::Nanos};

/// Counters of `/proc/net/netstat` for events of handshakes and TIME_WAIT that no record reports,
/// under the kernel's names (`net/ipv4/proc.c`).
pub const KERNEL_COUNTERS: [&str; 7] = [
    "ListenOverflows",
    "ListenDrops",
    "SyncookiesSent",
    "EmbryonicRsts",
    "TCPTimeWaitOverflow",
    "SyncookiesRecv",
    "SyncookiesFailed",
];

/// The values of [`KERNEL_COUNTERS`] in one network namespace at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelCounters {
    /// When the counters were read.
    pub time: Nanos,
    /// The values, in the order of [`KERNEL_COUNTERS`].
    #[serde(deserialize_with = "in_order")]
    pub counts: [u64; KERNEL_COUNTERS.len()],
}

impl KernelCounters {
    /// The index of `ListenOverflows`: connections for which the accept queue had no room.
    pub const LISTEN_OVERFLOWS: usize = 0;
    /// The index of `ListenDrops`: SYNs and connections that listeners dropped, for any reason.
    pub const LISTEN_DROPS: usize = 1;
    /// The index of `SyncookiesSent`.
    pub const COOKIES_SENT: usize = 2;
    /// The index of `TCPTimeWaitOverflow`.
    pub const TIME_WAIT_OVERFLOW: usize = 4;
    /// The index of `SyncookiesRecv`: valid SYN cookies that clients returned.
    pub const COOKIES_RETURNED: usize = 5;

    /// The increase of each counter since `before`.
    pub fn since(&self, before: &Self) -> [u64; KERNEL_COUNTERS.len()] {
        std::array::from_fn(|index| self.counts[index].saturating_sub(before.counts[index]))
    }
}

/// Adds increases of the [`KERNEL_COUNTERS`] to their sums. A damaged recording can hold any values.
pub(crate) fn add_increases(
    sums: &mut [u64; KERNEL_COUNTERS.len()],
    increases: &[u64; KERNEL_COUNTERS.len()],
) {
    for (sum, increase) in sums.iter_mut().zip(increases) {
        *sum = sum.saturating_add(*increase);
    }
}

/// The kernel's counters of a network namespace, read between two scans of its sockets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsCounters {
    /// The namespace.
    pub netns: NetnsId,
    /// Its counters.
    pub counters: KernelCounters,
}

/// The current time and counters. The tracker has no other clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// The current time.
    pub time: Nanos,
    /// Counters of the eBPF programs, read after all earlier records were delivered.
    pub counters: Counters,
    /// Counts per port since the previous tick.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortCount>,
    /// Whether a round of scans that completes the interval is in progress: an interval that is
    /// due ends with the next tick without this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaits_scans: bool,
}

/// A count of events at one local port. Remote hosts control how often these happen, so the eBPF
/// programs count them instead of writing records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortCount {
    /// The network namespace; 0 if the eBPF map was full.
    pub netns: NetnsId,
    /// The local port; 0 if the eBPF map was full.
    pub port: u16,
    /// The number of a [`synfin_common::port_count::PortEvent`].
    pub counted: u16,
    /// The number of events.
    pub count: u64,
}

/// Counters of the eBPF programs since they were attached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Records that the programs tried to write, by [`Kind`].
    #[serde(deserialize_with = "by_kind")]
    pub seen: [u64; Kind::COUNT],
    /// The part of `seen` that the ring buffer did not take.
    #[serde(deserialize_with = "by_kind")]
    pub lost: [u64; Kind::COUNT],
    /// The part of `seen` that the filter excluded.
    #[serde(default, deserialize_with = "by_kind")]
    pub filtered: [u64; Kind::COUNT],
    /// The part of `lost` for which the ring buffer had room: its lock gave up (since 6.15).
    #[serde(default)]
    pub refused: u64,
    /// Program runs that the kernel skipped (`recursion_misses` in `fdinfo`), except those of the main
    /// hook.
    pub missed: u64,
    /// Runs of the main hook's first program that the kernel skipped. Older recordings have them in
    /// `missed`.
    #[serde(default)]
    pub skipped: u64,
    /// Transitions that a later program of the main hook took, because the kernel skipped the first one or
    /// because an interrupt came between the two.
    #[serde(default)]
    pub recovered: u64,
}

/// Reads counts by [`Kind`]; older recordings have fewer kinds.
fn by_kind<'de, D: Deserializer<'de>>(from: D) -> Result<[u64; Kind::COUNT], D::Error> {
    at_most(from, "one count of each kind of record")
}

/// Reads counts in the order of [`KERNEL_COUNTERS`]; older recordings have fewer.
fn in_order<'de, D: Deserializer<'de>>(from: D) -> Result<[u64; KERNEL_COUNTERS.len()], D::Error> {
    at_most(from, "one count of each kernel counter")
}

/// Reads at most `N` counts. Those that are missing are 0.
fn at_most<'de, const N: usize, D: Deserializer<'de>>(
    from: D,
    expected: &'static str,
) -> Result<[u64; N], D::Error> {
    let counts = Vec::<u64>::deserialize(from)?;
    if counts.len() > N {
        return Err(D::Error::invalid_length(counts.len(), &expected));
    }
    Ok(std::array::from_fn(|index| counts.get(index).copied().unwrap_or(0)))
}

impl Counters {
    /// The sums of these counters and `more`.
    pub(crate) fn plus(&self, more: &Self) -> Self {
        let sum = |counts: &[u64; Kind::COUNT], more: &[u64; Kind::COUNT]| {
            std::array::from_fn(|kind| counts[kind].saturating_add(more[kind]))
        };
        Self {
            seen: sum(&self.seen, &more.seen),
            lost: sum(&self.lost, &more.lost),
            filtered: sum(&self.filtered, &more.filtered),
            refused: self.refused.saturating_add(more.refused),
            missed: self.missed.saturating_add(more.missed),
            skipped: self.skipped.saturating_add(more.skipped),
            recovered: self.recovered.saturating_add(more.recovered),
        }
    }

    /// The sums over all kinds: seen, lost, filtered.
    pub fn totals(&self) -> [u64; 3] {
        let sum = |counts: &[u64]| counts.iter().copied().fold(0, u64::saturating_add);
        [sum(&self.seen), sum(&self.lost), sum(&self.filtered)]
    }
}
