//! Why listeners dropped segments. A listener's own counter (`sk_drops`) does not say; the kernel's
//! counters of the namespace do, but not for which port.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use rustc_hash::FxBuildHasher;

use super::gauges::ScannedPort;
use crate::trace::{
    counters::{KERNEL_COUNTERS, KernelCounters},
    ids::NetnsId,
};

/// Drops that are not explained yet, by namespace.
#[derive(Debug, Default)]
pub(crate) struct ListenerDrops(HashMap<NetnsId, Unexplained, FxBuildHasher>);

#[derive(Debug, Default)]
struct Unexplained {
    /// The growth of `sk_drops` by port.
    by_port: BTreeMap<u16, u64>,
    /// The growth of the kernel's counters.
    counted: DropCauses,
    /// The part of `counted` since the last explanation.
    new: DropCauses,
}

/// Events at listeners by their cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DropCauses {
    /// Connections for which the accept queue had no room.
    pub(crate) accept_overflows: u64,
    /// SYNs for which the SYN queue had no room.
    pub(crate) syn_drops: u64,
    /// SYN cookies sent.
    pub(crate) cookies_sent: u64,
    /// Valid SYN cookies returned.
    pub(crate) cookies_returned: u64,
}

impl DropCauses {
    fn add(&mut self, new: &Self) {
        let Self { accept_overflows, syn_drops, cookies_sent, cookies_returned } = self;
        for (sum, new) in [
            (accept_overflows, new.accept_overflows),
            (syn_drops, new.syn_drops),
            (cookies_sent, new.cookies_sent),
            (cookies_returned, new.cookies_returned),
        ] {
            *sum = sum.saturating_add(new);
        }
    }
}

impl ListenerDrops {
    /// Adds the growth of a listener's `sk_drops`.
    pub(crate) fn add(&mut self, netns: NetnsId, port: u16, drops: u64) {
        if drops > 0 {
            *self.0.entry(netns).or_default().by_port.entry(port).or_default() += drops;
        }
    }

    /// Adds the growth of the kernel's counters.
    pub(crate) fn count(&mut self, netns: NetnsId, new: &[u64; KERNEL_COUNTERS.len()]) {
        let accept_overflows = new[KernelCounters::LISTEN_OVERFLOWS];
        let new = DropCauses {
            accept_overflows,
            // Each of the others is a SYN that the SYN queue had no room for, except for a few
            // half-open handshakes that ICMP errors ended (`tcp_req_err`).
            syn_drops: new[KernelCounters::LISTEN_DROPS].saturating_sub(accept_overflows),
            cookies_sent: new[KernelCounters::COOKIES_SENT],
            cookies_returned: new[KernelCounters::COOKIES_RETURNED],
        };
        if new != DropCauses::default() {
            let Unexplained { counted, new: since, .. } = self.0.entry(netns).or_default();
            counted.add(&new);
            since.add(&new);
        }
    }

    /// Whether the next scan of the namespace can explain drops that the last one did not find.
    pub(crate) fn are_incomplete(&self, netns: NetnsId) -> bool {
        self.0.contains_key(&netns)
    }

    /// Divides the kernel's counts among the ports of a namespace, whose sockets were just scanned
    /// and whose counters were read after that. If the counters are not known, every drop may be an
    /// overflow of the accept queue.
    pub(crate) fn explain(
        &mut self,
        netns: NetnsId,
        ports: &BTreeMap<u16, ScannedPort>,
        is_counted: bool,
    ) -> BTreeMap<u16, DropCauses> {
        let mut explained = BTreeMap::<u16, DropCauses>::new();
        let Some(Unexplained { mut by_port, mut counted, new }) = self.0.remove(&netns) else {
            return explained;
        };
        if !is_counted {
            for (port, drops) in by_port {
                explained.entry(port).or_default().accept_overflows = drops;
            }
            return explained;
        }
        let scanned = |port: &u16| ports.get(port).copied().unwrap_or_default();
        divide(&mut counted.accept_overflows, &mut by_port, |port| {
            scanned(port).accept_queue_full.into()
        })
        .for_each(|(port, count)| explained.entry(port).or_default().accept_overflows = count);
        divide(&mut counted.syn_drops, &mut by_port, |port| scanned(port).half_open)
            .for_each(|(port, count)| explained.entry(port).or_default().syn_drops = count);
        if let Some(port) = sends_cookies(ports) {
            let explained = explained.entry(port).or_default();
            explained.cookies_sent = counted.cookies_sent;
            explained.cookies_returned = counted.cookies_returned;
        }
        // The counters were read after the sockets, so they include drops that the next scan finds.
        // The remaining drops are others: resets of half-open handshakes, and ACKs that were
        // dropped after they had been counted as overflows.
        let counted = DropCauses {
            accept_overflows: counted.accept_overflows.min(new.accept_overflows),
            syn_drops: counted.syn_drops.min(new.syn_drops),
            ..DropCauses::default()
        };
        if counted != DropCauses::default() {
            self.0.insert(netns, Unexplained { counted, ..Unexplained::default() });
        }
        explained
    }
}

/// Divides `count` among ports, each up to its drops, and subtracts what they get: ports with a
/// higher `rank` first, then those with more drops.
fn divide(
    count: &mut u64,
    drops: &mut BTreeMap<u16, u64>,
    rank: impl Fn(&u16) -> u64,
) -> impl Iterator<Item = (u16, u64)> {
    let mut ports: Vec<_> = drops.iter_mut().collect();
    ports.sort_by_key(|(port, drops)| Reverse((rank(port) > 0, **drops)));
    let given: Vec<_> = ports
        .into_iter()
        .map(|(&port, drops)| {
            let part = (*count).min(*drops);
            *count -= part;
            *drops -= part;
            (port, part)
        })
        .collect();
    given.into_iter()
}

/// The port whose SYN queue overflows if the kernel sends SYN cookies: the one with the most
/// half-open handshakes. `None` if no port stands out.
fn sends_cookies(ports: &BTreeMap<u16, ScannedPort>) -> Option<u16> {
    let fullest = ports.iter().max_by_key(|(_, port)| port.half_open);
    let fullest = fullest.filter(|(_, port)| port.half_open > 0);
    // With net.ipv4.tcp_syncookies = 2 no handshake is queued.
    let mut listening = ports.iter().filter(|(_, port)| port.listens);
    let only = listening.next().filter(|_| listening.next().is_none());
    fullest.or(only).map(|(&port, _)| port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETNS: NetnsId = 7;

    fn counted(changes: &[(usize, u64)]) -> [u64; KERNEL_COUNTERS.len()] {
        let mut counts = [0; KERNEL_COUNTERS.len()];
        changes.iter().for_each(|&(index, count)| counts[index] = count);
        counts
    }

    fn syn_drops(count: u64) -> [u64; KERNEL_COUNTERS.len()] {
        counted(&[(KernelCounters::LISTEN_DROPS, count)])
    }

    fn port(half_open: u64, accept_queue_full: bool) -> ScannedPort {
        ScannedPort { listens: true, accept_queue_full, half_open }
    }

    #[test]
    fn each_cause_goes_to_the_ports_that_show_it() {
        let ports = BTreeMap::from([(80, port(0, true)), (443, port(96, false))]);
        let mut drops = ListenerDrops::default();
        drops.add(NETNS, 80, 20);
        drops.add(NETNS, 443, 900);
        // ACKs that find the accept queue full count twice in `sk_drops`.
        drops.count(
            NETNS,
            &counted(&[
                (KernelCounters::LISTEN_OVERFLOWS, 10),
                (KernelCounters::LISTEN_DROPS, 910),
            ]),
        );
        let explained = drops.explain(NETNS, &ports, true);
        let causes = [80, 443].map(|port| {
            let DropCauses { accept_overflows, syn_drops, .. } = explained[&port];
            (accept_overflows, syn_drops)
        });
        assert_eq!(causes, [(10, 0), (0, 900)]);
        assert!(drops.0.is_empty());
    }

    #[test]
    fn resets_of_half_open_handshakes_are_neither() {
        let mut drops = ListenerDrops::default();
        drops.add(NETNS, 80, 20);
        let explained = drops.explain(NETNS, &BTreeMap::from([(80, port(0, true))]), true);
        assert_eq!(explained.get(&80).copied().unwrap_or_default(), DropCauses::default());
        // Without the kernel's counters, they may be.
        drops.add(NETNS, 80, 20);
        assert_eq!(drops.explain(NETNS, &BTreeMap::new(), false)[&80].accept_overflows, 20);
    }

    #[test]
    fn drops_between_the_scan_and_the_counters_belong_to_the_next_scan() {
        let ports = BTreeMap::from([(80, port(9, false))]);
        let mut drops = ListenerDrops::default();
        let mut explained = Vec::new();
        for (grown, counts) in [(100, 120), (50, 30), (0, 0), (7, 0)] {
            drops.add(NETNS, 80, grown);
            drops.count(NETNS, &syn_drops(counts));
            let ports = drops.explain(NETNS, &ports, true);
            explained.push(ports.get(&80).map_or(0, |causes| causes.syn_drops));
        }
        assert_eq!(explained, [100, 50, 0, 0]);
    }

    #[test]
    fn what_no_listener_dropped_is_forgotten() {
        let ports = BTreeMap::from([(80, port(9, false))]);
        let mut drops = ListenerDrops::default();
        drops.count(NETNS, &syn_drops(10));
        drops.explain(NETNS, &ports, true);
        drops.explain(NETNS, &ports, true);
        drops.add(NETNS, 80, 10);
        assert_eq!(drops.explain(NETNS, &ports, true)[&80], DropCauses::default());
    }

    #[test]
    fn cookies_belong_to_the_port_with_the_most_half_open_handshakes() {
        let cookies = [(KernelCounters::COOKIES_SENT, 5), (KernelCounters::COOKIES_RETURNED, 2)];
        let sent = |ports: &[(u16, ScannedPort)]| {
            let mut drops = ListenerDrops::default();
            drops.count(NETNS, &counted(&cookies));
            let ports = ports.iter().copied().collect();
            let explained = drops.explain(NETNS, &ports, true);
            explained
                .into_iter()
                .map(|(port, it)| (port, it.cookies_sent, it.cookies_returned))
                .collect::<Vec<_>>()
        };
        assert_eq!(sent(&[(80, port(3, false)), (443, port(128, false))]), [(443, 5, 2)]);
        assert_eq!(sent(&[(80, port(0, false))]), [(80, 5, 2)]);
        assert_eq!(sent(&[(80, port(0, false)), (443, port(0, false))]), []);
    }
}
