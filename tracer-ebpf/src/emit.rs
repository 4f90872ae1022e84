//! Writes records to the ring buffer, and counts those that were lost or filtered.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use synfin_common::event::{AddressesV4, AddressesV6, Kind};

use crate::{
    maps::{EVENT_COUNTS, EVENTS},
    sock::{Addresses, global},
};

/// The fill level of the ring buffer is checked once per this many records of a kind and CPU: a
/// check costs a third of what a record costs.
const FILL_CHECK_INTERVAL: u64 = 128;

/// Writes one record of type `T`; `fill` must initialize all of it.
///
/// The reader drains the ring buffer on a timer and is woken only when more than `wake_bytes` wait.
/// All wakeups are forced: the kernel's adaptive wakeup (`kernel/bpf/ringbuf.c:bpf_ringbuf_commit`)
/// loses wakeups once records are pending that were submitted without notification.
#[inline(always)]
pub fn emit<T: 'static>(kind: Kind, fill: impl FnOnce(*mut T)) {
    let Some(counts) = EVENT_COUNTS.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the value belongs to this CPU, and one program alone writes the counter of this kind;
    // the kernel never runs a program twice at a time on one CPU.
    let seen = unsafe { &mut (*counts).seen[kind as usize] };
    *seen += 1;
    let checks_fill = (*seen).is_multiple_of(FILL_CHECK_INTERVAL);

    let Some(mut record) = EVENTS.reserve::<T>(0) else {
        // SAFETY: as above.
        unsafe { (*counts).lost[kind as usize] += 1 };
        return;
    };
    fill(record.as_mut_ptr());

    let wake =
        checks_fill && EVENTS.query(BPF_RB_AVAIL_DATA.into()) > u64::from(global!(wake_bytes));
    let flags = if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    record.submit(flags.into());
}

/// A record followed by its addresses, whose size depends on the address family.
#[repr(C)]
struct WithAddresses<T, A> {
    record: T,
    addresses: A,
}

/// Writes a record followed by addresses. `fill` initializes the record. Its second argument says
/// whether the addresses are IPv6, and is a constant in each branch.
#[inline(always)]
pub fn emit_with_addresses<T: 'static>(
    kind: Kind,
    addresses: Addresses,
    fill: impl Fn(*mut T, bool),
) {
    let Addresses { ipv6, local, remote } = addresses;
    // SAFETY: the pointers are into the ring buffer's memory for the record, the parts of the
    // record are 8-aligned, and each part is written.
    unsafe {
        if ipv6 {
            emit(kind, |written: *mut WithAddresses<T, AddressesV6>| {
                fill(&raw mut (*written).record, true);
                (&raw mut (*written).addresses.local).cast::<[u64; 2]>().write(local);
                (&raw mut (*written).addresses.remote).cast::<[u64; 2]>().write(remote);
            });
        } else {
            emit(kind, |written: *mut WithAddresses<T, AddressesV4>| {
                fill(&raw mut (*written).record, false);
                (&raw mut (*written).addresses.local).cast::<u32>().write(local[0] as u32);
                (&raw mut (*written).addresses.remote).cast::<u32>().write(remote[0] as u32);
            });
        }
    }
}

/// Counts a record that is not written because the filter excludes its socket.
#[inline(never)]
pub fn count_filtered(kind: Kind) {
    if let Some(counts) = EVENT_COUNTS.get_ptr_mut(0) {
        // SAFETY: as in `emit`.
        unsafe {
            (*counts).seen[kind as usize] += 1;
            (*counts).filtered[kind as usize] += 1;
        }
    }
}
