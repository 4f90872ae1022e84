//! Counts events per local port. Remote hosts can cause these events at any rate, so none of them
//! gets a record of its own.

use aya_ebpf::{bindings::BPF_NOEXIST, maps::PerCpuHashMap};
use synfin_common::port_count::{PortEvent, PortKey};

use crate::{
    count::add_one,
    maps::{NETNS_COUNTS, PORT_COUNTS, PORT_TOTALS},
};

/// Counts one event at a local port. `event` is a [`PortEvent::number`].
///
/// The finest count comes first. User space reads the coarsest one first, so that it never finds an event
/// there whose finer counts are still to come because something has interrupted the program.
#[inline(never)]
pub fn count(netns: u32, port: u16, event: u16) {
    increment(&PORT_COUNTS, PortKey { netns, port, event });
    increment(&NETNS_COUNTS, PortKey { netns, port: 0, event });
    if let Some(totals) = PORT_TOTALS.get_ptr_mut(0)
        && (event as usize) < PortEvent::COUNT
    {
        // SAFETY: the value is in a map.
        unsafe { add_one(&raw mut (*totals).0[event as usize]) };
    }
}

/// Adds one. If the map is full, only the coarser counts include the event.
#[inline(always)]
fn increment(counts: &PerCpuHashMap<PortKey, u64>, key: PortKey) {
    // If another CPU inserts the key first, this CPU has an entry as well.
    if !increment_existing(counts, &key) && counts.insert(key, 1, BPF_NOEXIST.into()).is_err() {
        increment_existing(counts, &key);
    }
}

/// Adds one if there is an entry, and returns whether there is.
#[inline(always)]
fn increment_existing(counts: &PerCpuHashMap<PortKey, u64>, key: &PortKey) -> bool {
    let Some(count) = counts.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: as in `count`.
    unsafe { add_one(count) };
    true
}
