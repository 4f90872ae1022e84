//! Applies the kernel's own counters of a namespace (`/proc/net/netstat`).

use crate::{
    tcp::role::Role,
    trace::{
        counters::{KernelCounters, NetnsCounters, add_increases},
        ids::NetnsId,
    },
    tracker::{Tracker, row_key::RowKey, scan::SocketScan},
};

impl Tracker {
    /// Applies counters that were read between two scans.
    pub(in crate::tracker) fn apply_kernel_counters(&mut self, read: &NetnsCounters) {
        let NetnsCounters { netns, counters } = read;
        self.now = self.now.max(counters.time);
        if let Some(known) = self.namespaces.learn_counters(*netns, *counters) {
            self.record_kernel_counters(*netns, &known, counters);
        }
    }

    /// Adds the growth of the counters.
    pub(in crate::tracker) fn record_kernel_counters(
        &mut self,
        netns: NetnsId,
        known: &KernelCounters,
        counters: &KernelCounters,
    ) {
        let new = counters.since(known);
        add_increases(&mut self.interval.kernel_counts, &new);
        self.listener_drops.count(netns, &new);
        let overflows = new[KernelCounters::TIME_WAIT_OVERFLOW];
        let resolved =
            self.time_waits.unconfirmed.resolve(netns, (known.time, counters.time), overflows);
        for (key, overflowed) in resolved {
            let row = self.rows.row(key, true);
            let counters = &mut self.rows.get_mut(row).counters;
            if overflowed {
                counters.time_wait_overflowed += 1;
            } else {
                counters.time_wait_entered += 1;
            }
        }
    }

    /// Counts why listeners dropped segments, after a scan of their namespace.
    pub(in crate::tracker) fn explain_drops(&mut self, scan: &SocketScan, is_counted: bool) {
        for (port, causes) in self.listener_drops.explain(scan.netns, &scan.ports, is_counted) {
            let key = RowKey::of_port(scan.netns, Role::Server, port);
            if let Some(row) = self.rows.find(key)
                && self.admits_port(scan.netns, port)
            {
                self.rows.get_mut(row).counters.add_drops(&causes);
            }
        }
    }
}
