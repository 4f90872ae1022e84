//! Counts of the records that the kernel side has seen, lost and filtered.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::event::Kind;

/// Counts of records on one CPU, indexed by [`Kind`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EventCounts {
    /// Records that a hook had to write.
    pub seen: [u64; Kind::COUNT],
    /// Those of them that were lost because the ring buffer had no room, or its lock gave up.
    pub lost: [u64; Kind::COUNT],
    /// Those of them that were not written because the filter excludes their sockets.
    pub filtered: [u64; Kind::COUNT],
    /// The part of `lost` for which there was room: the lock of the ring buffer gave up (since
    /// 6.15, `kernel/bpf/rqspinlock.c`).
    pub refused: u64,
}

impl EventCounts {
    /// Adds the counts of another CPU.
    pub fn add(&mut self, other: &Self) {
        let Self { seen, lost, filtered, refused } = self;
        *refused = refused.wrapping_add(other.refused);
        for (sums, counts) in [(seen, other.seen), (lost, other.lost), (filtered, other.filtered)] {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum = sum.wrapping_add(count);
            }
        }
    }
}
