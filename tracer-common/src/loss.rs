//! What the kernel side saw and did not hand over, counted per CPU.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::event::Kind;

/// One CPU's count of records, indexed by [`Kind`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Tally {
    /// Records that a hook wanted to write.
    pub seen: [u64; Kind::COUNT],
    /// Of these, records for which the ring buffer had no room.
    pub lost: [u64; Kind::COUNT],
    /// Of these, records of sockets that the filter excludes.
    pub filtered: [u64; Kind::COUNT],
}

impl Tally {
    /// Adds another CPU's counts.
    pub fn add(&mut self, other: &Self) {
        let Self { seen, lost, filtered } = self;
        for (sums, counts) in [(seen, other.seen), (lost, other.lost), (filtered, other.filtered)] {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum = sum.wrapping_add(count);
            }
        }
    }
}
