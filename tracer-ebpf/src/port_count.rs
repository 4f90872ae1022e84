//! Counts per local port, for what a stranger could trigger at will: never one record each.

use aya_ebpf::bindings::BPF_NOEXIST;
use synfin_common::port_count::{Counted, PortKey};

use crate::maps::{PORT_COUNTS, PORT_TOTALS};

/// Counts one at a port of a namespace. `counted` is a [`Counted::number`].
#[inline(never)]
pub fn count(netns: u32, port: u16, counted: u16) {
    if let Some(totals) = PORT_TOTALS.get_ptr_mut(0)
        && (counted as usize) < Counted::COUNT
    {
        // SAFETY: the value is this CPU's own. Two hooks write it, but never the same number.
        unsafe { (*totals).0[counted as usize] += 1 };
    }
    let key = PortKey { netns, port, counted };
    if add(&key) {
        return;
    }
    // Another CPU may be first, and then there is a count of ours. Where there is no room, the
    // totals tell.
    if PORT_COUNTS.insert(key, 1, BPF_NOEXIST.into()).is_err() {
        add(&key);
    }
}

/// Whether the port has a count, which is then one more.
#[inline(always)]
fn add(key: &PortKey) -> bool {
    let Some(count) = PORT_COUNTS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: the value is this CPU's own.
    unsafe { *count += 1 };
    true
}
