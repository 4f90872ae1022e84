//! Counts per local port, for what a stranger could trigger at will: never one record each.

use aya_ebpf::{bindings::BPF_NOEXIST, maps::PerCpuHashMap};
use synfin_common::port_count::{Counted, PortKey};

use crate::maps::{NETNS_COUNTS, PORT_COUNTS, PORT_TOTALS};

/// Counts one at a port of a namespace. `counted` is a [`Counted::number`].
#[inline(never)]
pub fn count(netns: u32, port: u16, counted: u16) {
    if let Some(totals) = PORT_TOTALS.get_ptr_mut(0)
        && (counted as usize) < Counted::COUNT
    {
        // SAFETY: the value is this CPU's own. Two hooks write it, but never the same number.
        unsafe { (*totals).0[counted as usize] += 1 };
    }
    add(&NETNS_COUNTS, PortKey { netns, port: 0, counted });
    add(&PORT_COUNTS, PortKey { netns, port, counted });
}

/// Adds one. Where there is no room, the coarser counts tell.
#[inline(always)]
fn add(counts: &PerCpuHashMap<PortKey, u64>, key: PortKey) {
    // Another CPU may be first to insert it, and then there is a count of ours.
    if !increment(counts, &key) && counts.insert(key, 1, BPF_NOEXIST.into()).is_err() {
        increment(counts, &key);
    }
}

/// Whether there is a count, which is then one more.
#[inline(always)]
fn increment(counts: &PerCpuHashMap<PortKey, u64>, key: &PortKey) -> bool {
    let Some(count) = counts.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: the value is this CPU's own.
    unsafe { *count += 1 };
    true
}
