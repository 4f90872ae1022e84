//! Records that the scans of all open files (`iter/task_file`) and of all threads (`iter/task`) write:
//! who holds TCP and MPTCP sockets, and network namespaces.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A process that has a TCP or MPTCP socket open.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SocketHolder {
    /// The socket's kernel address; of an MPTCP socket, the one that its subflows have in
    /// [`Established::mptcp`](crate::event::Established::mptcp).
    pub sock: u64,
    /// When the scan found the open file, nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// When the process was created (`start_time`), nanoseconds of `CLOCK_MONOTONIC`; 0 if unknown.
    pub start_time: u64,
    /// Id of the process's cgroup (version 2), 0 if unknown.
    pub cgroup: u64,
    /// The process id (thread group), in the initial PID namespace.
    pub pid: u32,
    /// The process id of its parent (`real_parent`).
    pub parent: u32,
    /// The name of its main thread, NUL-padded.
    pub comm: [u8; 16],
}

/// A thread that is in a network namespace: the main thread of each process, and other threads that are
/// in another namespace.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NamespaceHolder {
    /// When the thread was created (`start_time`), nanoseconds of `CLOCK_MONOTONIC`.
    pub start_time: u64,
    /// The namespace, as in [`Step::netns`](crate::event::Step::netns).
    pub netns: u32,
    /// Its inode number.
    pub inode: u32,
    /// The process id (thread group), in the initial PID namespace.
    pub pid: u32,
    /// The thread id, in the initial PID namespace.
    pub thread: u32,
}

const _: () = assert!(size_of::<SocketHolder>() == 56);
const _: () = assert!(size_of::<NamespaceHolder>() == 24);
