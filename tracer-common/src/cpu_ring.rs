//! Rings of records, one for each CPU, which user space maps.
//!
//! A ring is a row of segments. A record begins in a segment and may end in its margin, so that it is
//! always in one piece; the next one begins at the next position, in the next segment if the first is
//! full. Positions count bytes and only grow.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The size of a segment without its margin.
pub const SEGMENT_BYTES: usize = 1 << 16;

/// Room for the end of a record that begins at the end of a segment.
pub const MARGIN_BYTES: usize = 256;

/// A part of a ring: an element of the map.
pub type Segment = [u8; SEGMENT_BYTES + MARGIN_BYTES];

/// How far the program of a CPU has written its ring, and how far user space has read it. They are in
/// cache lines of their own.
#[derive(Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Positions {
    /// The end of the record that the program has begun. It reads the clock after this.
    pub begun: u64,
    /// The end of the last complete record.
    pub written: u64,
    reserved: [u64; 6],
    /// The end of what user space has taken.
    pub taken: u64,
    reserved2: [u64; 7],
}

/// A record in a ring, at a multiple of eight.
#[repr(C)]
pub struct Slot<T> {
    /// Never written.
    pub reserved: u32,
    /// The size of the record in bytes.
    pub size: u32,
    /// The record.
    pub record: T,
}
