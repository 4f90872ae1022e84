//! Counters of a CPU that several programs, or several runs of one, may add to.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

/// Adds one, whatever interrupts it.
///
/// # Safety
///
/// The pointer must be to a value in a map.
#[inline(always)]
pub unsafe fn add_one(counter: *mut u64) {
    // SAFETY: the caller guarantees it.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1) };
}
