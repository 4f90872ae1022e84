//! Events for which the kernel skipped the first program of a hook.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The hooks with a second program, as indexes of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// A transition.
    StateChange = 0,
    /// A reset was received.
    ResetReceived = 1,
    /// A reset was sent.
    ResetSent = 2,
}

impl Hook {
    /// The number of hooks.
    pub const COUNT: u32 = 3;
}

/// The event of a hook that a program took last on one CPU.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Taken {
    /// The socket's kernel address.
    pub sock: u64,
    /// What else identifies the event.
    pub detail: u64,
    /// How many events another than the hook's first program took.
    pub recovered: u64,
}
