//! Transitions for which the kernel skipped the first program of the main hook.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Which program of a hook writes a record. The number is the index of its counters. All hooks but the main
/// one have one program only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Writer {
    /// The first program.
    First = 0,
    /// The second program.
    Second = 1,
    /// The third program.
    Third = 2,
}

impl Writer {
    /// The number of writers.
    pub const COUNT: u32 = 3;
}

/// A transition.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Event {
    /// The socket's kernel address.
    pub sock: u64,
    /// Its states.
    pub states: u64,
}

/// The transitions that the programs of one CPU took last.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Taken {
    /// By the first program.
    pub first: Event,
    /// By the second program.
    pub second: Event,
    /// How many transitions another than the first program took.
    pub recovered: u64,
}
