//! Writes records to the CPU's ring or to the ring buffer, and counts those that were lost or filtered.

use aya_ebpf::bindings::{
    BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE,
};
use synfin_common::{
    event::{AddressesV4, AddressesV6, Kind},
    taken::Writer,
};

use crate::{
    count::add_one,
    cpu_ring,
    maps::{EVENT_COUNTS, EVENTS},
    sock::{Addresses, global},
};

/// The fill level of the ring buffer is checked once per this many records of a kind and CPU: a
/// check costs a third of what a record costs.
const FILL_CHECK_INTERVAL: u64 = 128;

/// Writes one record of type `T`; `fill` must initialize all of it.
///
/// `fill` also reads the clock, so the time of a record is later than its reservation. The user side
/// relies on that: all records that are older than a moment have been reserved by then.
///
/// The reader drains the ring buffer on a timer and is woken only when more than `wake_bytes` wait.
/// All wakeups are forced: the kernel's adaptive wakeup (`kernel/bpf/ringbuf.c:bpf_ringbuf_commit`)
/// loses wakeups once records are pending that were submitted without notification.
#[inline(always)]
pub fn emit<T: 'static>(kind: Kind, writer: Writer, fill: impl FnOnce(*mut T)) {
    let Some(counts) = EVENT_COUNTS.get_ptr_mut(writer as u32) else {
        return;
    };
    // SAFETY: the pointer is to this CPU's value.
    let seen = unsafe { increment(&raw mut (*counts).seen[kind as usize]) };
    let checks_fill = seen.is_multiple_of(FILL_CHECK_INTERVAL);

    if writer == Writer::First && cpu_ring::exists() {
        if !cpu_ring::write(fill) {
            // SAFETY: as above.
            unsafe { increment(&raw mut (*counts).lost[kind as usize]) };
        }
        if checks_fill && cpu_ring::is_filling() {
            wake_reader();
        }
        return;
    }
    let Some(mut record) = EVENTS.reserve::<T>(0) else {
        // SAFETY: as above.
        unsafe {
            increment(&raw mut (*counts).lost[kind as usize]);
            let room =
                EVENTS.query(BPF_RB_RING_SIZE.into()) - EVENTS.query(BPF_RB_AVAIL_DATA.into());
            if room > 2 * size_of::<T>() as u64 {
                // Unlike the others, of all kinds.
                add_one(&raw mut (*counts).refused);
            }
        }
        return;
    };
    fill(record.as_mut_ptr());

    let wake =
        checks_fill && EVENTS.query(BPF_RB_AVAIL_DATA.into()) > u64::from(global!(wake_bytes));
    let flags = if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    record.submit(flags.into());
}

/// Wakes the reader, which waits for the ring buffer.
#[inline(always)]
fn wake_reader() {
    if let Some(nothing) = EVENTS.reserve::<u64>(0) {
        nothing.discard(BPF_RB_FORCE_WAKEUP.into());
    }
}

/// Adds one to a counter of this CPU, and returns its value before.
///
/// # Safety
/// The pointer must be to the value of this CPU in a map. One program alone writes the counter.
#[inline(always)]
unsafe fn increment(counter: *mut u64) -> u64 {
    let can_nest = global!(can_nest) != 0;
    // SAFETY: the caller guarantees it.
    unsafe {
        let before = counter.read();
        if !can_nest {
            counter.write(before + 1);
        } else {
            // Another run of the same program may interrupt this one between the read and the write.
            add_one(counter);
        }
        before
    }
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
    writer: Writer,
    addresses: Addresses,
    fill: impl Fn(*mut T, bool),
) {
    let Addresses { ipv6, local, remote } = addresses;
    // SAFETY: the pointers are into the ring buffer's memory for the record, the parts of the
    // record are 8-aligned, and each part is written.
    unsafe {
        if ipv6 {
            emit(kind, writer, |written: *mut WithAddresses<T, AddressesV6>| {
                fill(&raw mut (*written).record, true);
                (&raw mut (*written).addresses.local).cast::<[u64; 2]>().write(local);
                (&raw mut (*written).addresses.remote).cast::<[u64; 2]>().write(remote);
            });
        } else {
            emit(kind, writer, |written: *mut WithAddresses<T, AddressesV4>| {
                fill(&raw mut (*written).record, false);
                (&raw mut (*written).addresses.local).cast::<u32>().write(local[0] as u32);
                (&raw mut (*written).addresses.remote).cast::<u32>().write(remote[0] as u32);
            });
        }
    }
}

/// Counts a record that is not written because the filter excludes its socket.
#[inline(never)]
pub fn count_filtered(kind: Kind, writer: Writer) {
    if let Some(counts) = EVENT_COUNTS.get_ptr_mut(writer as u32) {
        // SAFETY: as in `emit`.
        unsafe {
            increment(&raw mut (*counts).seen[kind as usize]);
            increment(&raw mut (*counts).filtered[kind as usize]);
        }
    }
}
