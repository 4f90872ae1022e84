//! What a look at all processes' files (`iter/task_file`) writes, one record per open TCP socket.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A process has a TCP socket open.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct HeldSocket {
    /// The socket's kernel address.
    pub sock: u64,
    /// `CLOCK_MONOTONIC` when the look was here, nanoseconds.
    pub time: u64,
    /// When the process was made, by the same clock; 0 if unknown.
    pub born: u64,
    /// Id of the process's cgroup (version 2), 0 if unknown.
    pub cgroup: u64,
    /// The process (thread group), as the initial process namespace numbers it.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// Its main thread's name, NUL-padded.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<HeldSocket>() == 56);
