//! The only code that reserves and submits; it counts what it could not, and what it was not to.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use synfin_common::event::{Ends4, Ends6, Kind};

use crate::{
    maps::{EVENTS, TALLY},
    sock::{Addresses, global},
};

/// How many records of a kind and CPU pass between two looks at how full the ring buffer is:
/// looking costs as much as a third of a record.
const LOOK_EVERY: u64 = 128;

/// Writes one record of type `T`: `fill` must initialize all of it.
///
/// The reader drains the ring on a timer. Only when more than `wake_bytes` wait is it woken, and
/// then always by force: the kernel's own adaptive wakeup is never mixed in, as it loses wakeups
/// once records without notification are pending.
#[inline(always)]
pub fn emit<T: 'static>(kind: Kind, fill: impl FnOnce(*mut T)) {
    let Some(tally) = TALLY.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the value is this CPU's own, and this kind's counter is written by one program,
    // which the kernel does not run twice at a time on a CPU.
    let seen = unsafe { &mut (*tally).seen[kind as usize] };
    *seen += 1;
    let look = (*seen).is_multiple_of(LOOK_EVERY);

    let Some(mut record) = EVENTS.reserve::<T>(0) else {
        // SAFETY: as above.
        unsafe { (*tally).lost[kind as usize] += 1 };
        return;
    };
    fill(record.as_mut_ptr());

    let wake = look && EVENTS.query(BPF_RB_AVAIL_DATA.into()) > u64::from(global!(wake_bytes));
    let flags = if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    record.submit(flags.into());
}

/// What is written: the addresses come last, as their size differs.
#[repr(C)]
struct WithEnds<T, E> {
    record: T,
    ends: E,
}

/// Writes a record and addresses behind it. `fill` initializes the record, told whether they are
/// IPv6: a constant in either branch.
#[inline(always)]
pub fn emit_with_ends<T: 'static>(kind: Kind, addresses: Addresses, fill: impl Fn(*mut T, bool)) {
    let Addresses { ipv6, local, remote } = addresses;
    // SAFETY: the pointers are into the ring buffer's memory for the record, whose parts are
    // 8-aligned in it, and all of it is written.
    unsafe {
        if ipv6 {
            emit(kind, |written: *mut WithEnds<T, Ends6>| {
                fill(&raw mut (*written).record, true);
                (&raw mut (*written).ends.local).cast::<[u64; 2]>().write(local);
                (&raw mut (*written).ends.remote).cast::<[u64; 2]>().write(remote);
            });
        } else {
            emit(kind, |written: *mut WithEnds<T, Ends4>| {
                fill(&raw mut (*written).record, false);
                (&raw mut (*written).ends.local).cast::<u32>().write(local[0] as u32);
                (&raw mut (*written).ends.remote).cast::<u32>().write(remote[0] as u32);
            });
        }
    }
}

/// Counts a record that the filter keeps from being written.
#[inline(never)]
pub fn leave_out(kind: Kind) {
    if let Some(tally) = TALLY.get_ptr_mut(0) {
        // SAFETY: as in `emit`.
        unsafe {
            (*tally).seen[kind as usize] += 1;
            (*tally).filtered[kind as usize] += 1;
        }
    }
}
