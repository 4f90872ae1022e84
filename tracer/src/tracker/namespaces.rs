//! What is known of each network namespace: which were scanned, and where something has happened
//! since. Bounded, as containers come and go.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::trace::{
    counters::KernelCounters,
    ids::NetnsId,
    scan::{EphemeralPorts, ScanEnd},
    time::Nanos,
};

/// More namespaces than this are not told apart: the one that was quiet for longest is forgotten,
/// and scanned anew if it still exists.
const LIMIT: usize = 4096;

#[derive(Clone, Copy, Debug, Default)]
struct Namespace {
    /// Something has happened since the last scan began.
    changed: bool,
    /// How many losses were known when the last complete scan began; `None`: never scanned.
    losses_at_walk: Option<u64>,
    last_seen: Nanos,
    /// When the last complete scan began.
    walked_at: Nanos,
    /// That scan met connections.
    has_connections: bool,
    ephemeral_ports: Option<EphemeralPorts>,
    counters: Option<KernelCounters>,
}

/// Where there are connections, a scan is due after so long even if nothing has happened: one that
/// stalls changes no state.
const STALL_PERIOD: Nanos = 5_000_000_000;

/// All namespaces, by inode number.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    known: HashMap<NetnsId, Namespace, FxBuildHasher>,
    /// The one that changed last and was not scanned since: there is nothing to note.
    changed: Option<NetnsId>,
}

impl Namespaces {
    /// Something happened there.
    pub(super) fn note_transition(&mut self, netns: NetnsId, now: Nanos) {
        if self.changed != Some(netns) {
            self.at(netns, now).changed = true;
            self.changed = Some(netns);
        }
    }

    /// A scan begins: what happens from here on is new again.
    pub(super) fn scan_begins(&mut self, netns: NetnsId, now: Nanos) {
        self.changed = None;
        self.at(netns, now).changed = false;
    }

    /// A scan came to its end; `losses` were known when it began. Gives what the kernel had
    /// counted by the scan before.
    pub(super) fn scanned(
        &mut self,
        end: &ScanEnd,
        losses: u64,
        has_connections: bool,
    ) -> Option<KernelCounters> {
        let namespace = self.at(end.netns, end.ended);
        namespace.losses_at_walk = Some(losses);
        namespace.walked_at = end.begun;
        namespace.has_connections = has_connections;
        namespace.ephemeral_ports = end.ephemeral_ports.or(namespace.ephemeral_ports);
        match end.counters {
            Some(counters) => namespace.counters.replace(counters),
            None => None,
        }
    }

    /// When its last complete scan began.
    pub(super) fn scanned_at(&self, netns: NetnsId) -> Option<Nanos> {
        let namespace = self.known.get(&netns)?;
        namespace.losses_at_walk.map(|_| namespace.walked_at)
    }

    /// How it gives out ports, if a scan has shown that.
    pub(super) fn ephemeral_ports(&self, netns: NetnsId) -> Option<EphemeralPorts> {
        self.known.get(&netns)?.ephemeral_ports
    }

    /// How many losses were known when it was last scanned; `None`: never.
    pub(super) fn losses_at_scan(&self, netns: NetnsId) -> Option<u64> {
        self.known.get(&netns)?.losses_at_walk
    }

    /// Whether a scan could show anything new, with so many losses known by now.
    pub(super) fn wants_scan(&self, netns: NetnsId, losses: u64, now: Nanos) -> bool {
        self.known.get(&netns).is_none_or(|namespace| {
            let is_old = namespace.walked_at.saturating_add(STALL_PERIOD) < now;
            namespace.changed
                || namespace.has_connections && is_old
                || namespace.losses_at_walk.is_none_or(|known| losses > known)
        })
    }

    fn at(&mut self, netns: NetnsId, now: Nanos) -> &mut Namespace {
        if self.known.len() >= LIMIT && !self.known.contains_key(&netns) {
            let quietest = self.known.iter().min_by_key(|(_, namespace)| namespace.last_seen);
            if let Some((&quietest, _)) = quietest {
                self.known.remove(&quietest);
                self.changed = None;
            }
        }
        let namespace = self.known.entry(netns).or_default();
        namespace.last_seen = namespace.last_seen.max(now);
        namespace
    }
}
