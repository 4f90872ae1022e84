//! The kernel's TCP counters in the network namespace of the calling thread.

use crate::{
    host::clock,
    trace::counters::{KERNEL_COUNTERS, KernelCounters},
};

/// Reads the counters. Returns `None` if they cannot be read.
pub(crate) fn read() -> Option<KernelCounters> {
    // The time is read first, so events that the counters do not include happened after it.
    let time = clock::monotonic_ns();
    // `/proc/net` shows the namespace of the process, not that of the thread.
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").ok()?;
    Some(KernelCounters { time, counts: parse(&text) })
}

/// Parses pairs of lines: a line of names, then a line of values. Both begin with the group's name.
fn parse(text: &str) -> [u64; KERNEL_COUNTERS.len()] {
    let mut counts = [0; KERNEL_COUNTERS.len()];
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        for (name, value) in names.split(' ').zip(values.split(' ')) {
            if let Some(place) = KERNEL_COUNTERS.iter().position(|known| *known == name) {
                counts[place] = value.parse().unwrap_or(0);
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    #[test]
    fn counters_are_found_by_their_names() {
        let text = "TcpExt: SyncookiesSent EmbryonicRsts ListenDrops\nTcpExt: 3 1 18\n\
            IpExt: InNoRoutes ListenDrops2\nIpExt: 7 8\n";
        assert_eq!(super::parse(text), [0, 18, 3, 1, 0, 0, 0]);
    }
}
