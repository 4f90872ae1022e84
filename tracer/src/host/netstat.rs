//! What the kernel counts for the namespace that the calling thread is in.

use crate::{
    host::clock,
    trace::counters::{KERNEL_COUNTERS, KernelCounters},
};

/// Reads them; `None` if they cannot be read.
pub(crate) fn read() -> Option<KernelCounters> {
    // Before, so that all that was counted later happened later.
    let time = clock::monotonic_ns();
    // /proc/net is the process's, not the thread's.
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").ok()?;
    Some(KernelCounters { time, counts: parse(&text) })
}

/// The text has a line of names, then a line of values, each after the name of its group.
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
        assert_eq!(super::parse(text), [0, 18, 3, 1, 0]);
    }
}
