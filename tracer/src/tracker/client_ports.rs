//! The local ports that clients have used lately.

use std::{collections::HashMap, mem};

use rustc_hash::FxBuildHasher;

use crate::trace::{ids::NetnsId, time::Nanos};

/// How long a peer goes on to send segments, if it gets no answer: as long as TCP retransmits by
/// default (`net.ipv4.tcp_retries2`), a quarter of an hour.
const LATE: Nanos = 900_000_000_000;

/// Maximum number of namespaces.
const LIMIT: usize = 256;

/// The local ports that clients have used, for at least [`LATE`] after that.
#[derive(Debug, Default)]
pub(super) struct ClientPorts {
    /// The ports used since `began`.
    young: Used,
    /// Those used in the period before.
    old: Used,
    began: Nanos,
}

type Used = HashMap<NetnsId, PortSet, FxBuildHasher>;

/// A set of ports: one bit for each.
#[derive(Debug)]
struct PortSet(Box<[u64; 1024]>);

impl ClientPorts {
    /// Notes that a client has used a port.
    pub(super) fn note(&mut self, netns: NetnsId, port: u16, now: Nanos) {
        if now >= self.began.saturating_add(LATE) {
            self.old = mem::take(&mut self.young);
            self.began = now;
        }
        if self.young.len() < LIMIT || self.young.contains_key(&netns) {
            self.young.entry(netns).or_default().insert(port);
        }
    }

    /// Whether a client may have used a port.
    pub(super) fn contains(&self, netns: NetnsId, port: u16) -> bool {
        [&self.young, &self.old].into_iter().any(|used| match used.get(&netns) {
            Some(ports) => ports.contains(port),
            None => used.len() >= LIMIT,
        })
    }
}

impl Default for PortSet {
    fn default() -> Self {
        Self(Box::new([0; 1024]))
    }
}

impl PortSet {
    fn insert(&mut self, port: u16) {
        self.0[usize::from(port / 64)] |= 1 << (port % 64);
    }

    fn contains(&self, port: u16) -> bool {
        self.0[usize::from(port / 64)] & (1 << (port % 64)) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_kept_for_a_while() {
        let mut used = ClientPorts::default();
        let start = 5 * LATE;
        used.note(1, 40_000, start);
        used.note(1, 40_063, start + LATE - 1);
        used.note(2, 65_535, start + LATE);
        assert!([40_000, 40_063].iter().all(|&port| used.contains(1, port)));
        assert!(used.contains(2, 65_535));
        for (netns, port) in [(1, 40_001), (1, 65_535), (2, 40_000), (3, 40_000)] {
            assert!(!used.contains(netns, port), "{netns}: {port}");
        }
        used.note(2, 0, start + 2 * LATE);
        assert!(!used.contains(1, 40_000) && used.contains(2, 65_535) && used.contains(2, 0));
    }

    #[test]
    fn what_is_not_known_of_many_namespaces_is_possible() {
        let mut used = ClientPorts::default();
        for netns in 0..=NetnsId::try_from(LIMIT).unwrap() {
            used.note(netns, 40_000, 1);
        }
        assert!(used.contains(NetnsId::try_from(LIMIT).unwrap(), 50_000));
        assert!(!used.contains(0, 50_000));
    }
}
