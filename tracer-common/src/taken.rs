//! Transitions for which the kernel skipped the first program of the main hook.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Which program writes a record. The number is the index of its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Writer {
    /// The first program of the main hook. Where the CPU has a ring, its records go there.
    First = 0,
    /// The second program of the main hook.
    Second = 1,
    /// The third program of the main hook.
    Third = 2,
    /// The program of another hook.
    Other = 3,
}

impl Writer {
    /// The number of writers.
    pub const COUNT: u32 = 4;
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
