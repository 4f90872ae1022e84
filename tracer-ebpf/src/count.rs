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
    unsafe { add(counter, 1) };
}

/// Adds a number, whatever interrupts it. On x86-64 this is a full barrier.
///
/// # Safety
///
/// As of [`add_one`].
#[inline(always)]
pub unsafe fn add(counter: *mut u64, number: u64) {
    // SAFETY: the caller guarantees it.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, number) };
}
