//! What the kernel side saw and could not hand over, counted per CPU.

use crate::event::Kind;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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
}

impl Tally {
    /// Adds another CPU's counts.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.seen.iter_mut().zip(other.seen) {
            *sum = sum.wrapping_add(count);
        }
        for (sum, count) in self.lost.iter_mut().zip(other.lost) {
            *sum = sum.wrapping_add(count);
        }
    }
}
