//! The PID namespace of this process.

use std::{fs, os::unix::fs::MetadataExt};

/// `PROC_PID_INIT_INO` (`include/linux/proc_ns.h`).
const INITIAL: u64 = 0xefff_fffc;

/// Whether this process is in the initial PID namespace, whose process ids the eBPF programs see;
/// `None` if unknown.
pub(crate) fn is_initial() -> Option<bool> {
    let inode = fs::metadata("/proc/self/ns/pid").ok()?.ino();
    Some(inode == INITIAL)
}
