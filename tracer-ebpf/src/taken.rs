//! The event of each hook that a program took last on each CPU, by which the hook's next program knows
//! those that none took: the kernel skips a program that is already running on the CPU.

use core::{
    intrinsics::{AtomicOrdering, atomic_xadd},
    ptr::{read_volatile, write_volatile},
};

use synfin_common::taken::Hook;

use crate::maps::TAKEN;

/// Notes that the calling program takes this event of a socket: first of all, as what interrupts it
/// before is not told from what interrupts it later.
#[inline(always)]
pub fn set(hook: Hook, sock: u64, detail: u64) {
    if let Some(taken) = TAKEN.get_ptr_mut(hook as u32) {
        // SAFETY: the pointer is to this CPU's value. What interrupts this between the two writes is an
        // event of another socket, because this one's is locked, or of another packet.
        unsafe {
            write_volatile(&raw mut (*taken).sock, sock);
            write_volatile(&raw mut (*taken).detail, detail);
        }
    }
}

/// Whether no program has taken this event, so that the calling one, which is not the first, has to. Counts
/// it then.
#[inline(always)]
pub fn is_skipped(hook: Hook, sock: u64, detail: u64) -> bool {
    let Some(taken) = TAKEN.get_ptr_mut(hook as u32) else {
        return false;
    };
    // SAFETY: as in `set`; the hook's other programs may interrupt this one.
    unsafe {
        if read_volatile(&raw const (*taken).sock) == sock
            && read_volatile(&raw const (*taken).detail) == detail
        {
            return false;
        }
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*taken).recovered, 1);
    }
    true
}
