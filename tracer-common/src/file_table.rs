//! Where a process keeps its open files: a read-only global that the loader sets.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::config::ABSENT;

/// Byte offsets of the kernel fields that lead from a process to its open files, from the running
/// kernel's BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FileTable {
    /// `task_struct.files`.
    pub task_files: u16,
    /// `files_struct.fdt`.
    pub files_fdt: u16,
    /// `fdtable.fd`.
    pub fdtable_fd: u16,
    /// Zero.
    pub reserved: u16,
}

impl FileTable {
    /// The value in the object file, before the loader sets it.
    pub const UNKNOWN: Self =
        Self { task_files: ABSENT, files_fdt: ABSENT, fdtable_fd: ABSENT, reserved: 0 };

    /// Whether all fields are known.
    pub const fn is_known(&self) -> bool {
        self.task_files != ABSENT && self.files_fdt != ABSENT && self.fdtable_fd != ABSENT
    }
}
