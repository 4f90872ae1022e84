//! What the kernel side and the kernel itself have counted, and the tick that carries it.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use synfin_common::event::Kind;

use crate::trace::{ids::NetnsId, time::Nanos};

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
