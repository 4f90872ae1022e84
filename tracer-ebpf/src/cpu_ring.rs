//! The ring of each CPU, for the records of the main hook's first program.
//!
//! The kernel never runs that program twice at a time on one CPU, so a ring has one producer, which needs
//! no lock: a record costs half of what it costs in a ring buffer, and nothing more if other CPUs write
//! records at the same time.

use core::{
    arch::asm,
    ptr::{read_volatile, write_volatile},
};

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use synfin_common::cpu_ring::{MARGIN_BYTES, Positions, SEGMENT_BYTES, Slot};

use crate::{
    count::add,
    maps::{POSITIONS, SEGMENTS},
    sock::global,
};

/// Whether this CPU has a ring: not on every kernel, and not if it was offline when synfin started.
#[inline(always)]
pub fn exists() -> bool {
    let rings = global!(cpu_rings);
    rings != 0 && cpu() < rings
}

#[inline(always)]
fn cpu() -> u32 {
    // SAFETY: the helper has no arguments.
    unsafe { bpf_get_smp_processor_id() }
}

/// Writes a record, which `fill` initializes. Returns whether there was room.
///
/// `fill` also reads the clock, after the record has begun. User space relies on that: all records that
/// are older than a moment have begun by then.
#[inline(always)]
pub fn write<T: 'static>(fill: impl FnOnce(*mut T)) -> bool {
    const { assert!(size_of::<Slot<T>>() <= MARGIN_BYTES) }
    let size = size_of::<Slot<T>>() as u64;
    let ring = cpu();
    let Some(positions) = POSITIONS.get_ptr_mut(ring) else {
        return false;
    };
    let position = written(positions);
    if waiting(positions) + size > u64::from(global!(cpu_ring_bytes)) {
        return false;
    }
    let segments = global!(segments);
    let segment = (position / SEGMENT_BYTES as u64) as u32 & (segments - 1);
    let Some(base) = SEGMENTS.get_ptr_mut(ring * segments + segment) else {
        return false;
    };
    // SAFETY: the verifier checks the access, and this program alone writes the positions of its CPU.
    // Of the two positions, the first is added to with a full barrier, before the clock is read. The
    // other one is stored last, which is enough on x86-64: stores are not reordered there.
    unsafe {
        add(&raw mut (*positions).begun, size);
        let slot = base.cast::<u8>().add(position as usize & (SEGMENT_BYTES - 1)).cast::<Slot<T>>();
        (&raw mut (*slot).size).write(size_of::<T>() as u32);
        fill(&raw mut (*slot).record);
        // No store moves behind this, so that the compiler keeps the order.
        asm!("");
        write_volatile(&raw mut (*positions).written, position + size);
    }
    true
}

/// Whether so much waits in this CPU's ring that the reader should be woken.
#[inline(always)]
pub fn is_filling() -> bool {
    POSITIONS
        .get_ptr_mut(cpu())
        .is_some_and(|positions| waiting(positions) > u64::from(global!(cpu_wake_bytes)))
}

#[inline(always)]
fn waiting(positions: *mut Positions) -> u64 {
    // SAFETY: the verifier checks the access; user space writes the position.
    written(positions) - unsafe { read_volatile(&raw const (*positions).taken) }
}

#[inline(always)]
fn written(positions: *mut Positions) -> u64 {
    // SAFETY: as above.
    unsafe { read_volatile(&raw const (*positions).written) }
}
