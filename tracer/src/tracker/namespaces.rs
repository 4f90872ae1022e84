//! The network namespaces: when each was scanned, and whether it changed since then. The table is
//! bounded, because namespaces can be created without limit.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use super::scan::SocketScan;
use crate::trace::{
    counters::KernelCounters,
    ids::NetnsId,
    scan::{EphemeralPorts, ScanEnd},
    time::Nanos,
};

/// Maximum number of namespaces. Beyond it the least recently active one is evicted, and scanned
/// again if it still exists.
const LIMIT: usize = 4096;

#[derive(Clone, Copy, Debug, Default)]
struct Namespace {
    /// Whether events have been observed since the last scan began.
    changed: bool,
    /// Whether another scan is needed although no socket is known to have changed.
    rescan: bool,
    /// Number of losses known when the last complete scan began; `None` if never scanned.
    losses_at_scan: Option<u64>,
    last_seen: Nanos,
    /// Number of scans of all open files when a list of all namespaces lacked it although it had sockets;
    /// `None` if it had a record since, or never.
    unlisted_in: Option<u32>,
    /// Start of the last complete scan.
    scanned_at: Nanos,
    /// Whether that scan found connections.
    has_connections: bool,
    /// Whether that scan found listeners.
    has_listeners: bool,
    ephemeral_ports: Option<EphemeralPorts>,
    counters: Option<KernelCounters>,
}

/// A namespace with connections is scanned after this time even without transitions, because a
/// connection that stalls does not change its state.
const STALL_PERIOD: Nanos = 5_000_000_000;

/// So many scans of all open files show whether any process holds a socket of a namespace: one that
/// began after the namespace was missing in a list, at least.
const HOLDER_SCANS: u32 = 2;

/// All namespaces.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    known: HashMap<NetnsId, Namespace, FxBuildHasher>,
    /// The namespace that changed last and was not scanned since, so that it is already marked.
    changed: Option<NetnsId>,
}

impl Namespaces {
    /// Marks the namespace as changed.
    pub(super) fn note_change(&mut self, netns: NetnsId, now: Nanos) {
        if self.changed != Some(netns) {
            let namespace = self.at(netns, now);
            (namespace.changed, namespace.unlisted_in) = (true, None);
            self.changed = Some(netns);
        }
    }

    /// Requests a scan of what changes without events, such as SYN queues and counters.
    pub(super) fn request_scan(&mut self, netns: NetnsId, now: Nanos) {
        self.at(netns, now).rescan = true;
    }

    /// Begins a scan: changes from now on require another one.
    pub(super) fn begin_scan(&mut self, netns: NetnsId, now: Nanos) {
        self.changed = None;
        let namespace = self.at(netns, now);
        (namespace.changed, namespace.rescan) = (false, false);
    }

    /// Ends a complete scan. Returns the kernel's counters as they were known before.
    pub(super) fn end_scan(&mut self, end: &ScanEnd, scan: &SocketScan) -> Option<KernelCounters> {
        let namespace = self.at(end.netns, end.ended);
        namespace.losses_at_scan = Some(scan.losses);
        namespace.scanned_at = end.started;
        namespace.has_connections = scan.has_connections;
        namespace.has_listeners = scan.ports.values().any(|port| port.listens);
        namespace.ephemeral_ports = end.ephemeral_ports.or(namespace.ephemeral_ports);
        match end.counters {
            Some(counters) => namespace.counters.replace(counters),
            None => None,
        }
    }

    /// Takes the kernel's counters, and returns those that were known before. If they have grown,
    /// the namespace is worth a scan.
    pub(super) fn learn_counters(
        &mut self,
        netns: NetnsId,
        counters: KernelCounters,
    ) -> Option<KernelCounters> {
        let known = self.at(netns, counters.time).counters.replace(counters);
        if known.is_some_and(|known| known.counts != counters.counts) {
            self.request_scan(netns, counters.time);
        }
        known
    }

    /// Start of the namespace's last complete scan.
    pub(super) fn scanned_at(&self, netns: NetnsId) -> Option<Nanos> {
        let namespace = self.known.get(&netns)?;
        namespace.losses_at_scan.map(|_| namespace.scanned_at)
    }

    /// Whether the namespace had any activity since its last complete scan began.
    pub(super) fn has_changed(&self, netns: NetnsId) -> bool {
        self.known.get(&netns).is_some_and(|namespace| namespace.changed || namespace.rescan)
    }

    /// The namespace's settings for ephemeral ports; `None` if no scan has shown them.
    pub(super) fn ephemeral_ports(&self, netns: NetnsId) -> Option<EphemeralPorts> {
        self.known.get(&netns)?.ephemeral_ports
    }

    /// Number of losses known when the namespace was last scanned; `None` if never.
    pub(super) fn losses_at_scan(&self, netns: NetnsId) -> Option<u64> {
        self.known.get(&netns)?.losses_at_scan
    }

    /// Whether a scan could show anything new, now that `losses` are known.
    pub(super) fn wants_scan(&self, netns: NetnsId, losses: u64, now: Nanos) -> bool {
        self.wants_holders(netns, losses, now)
            || self.known.get(&netns).is_some_and(|namespace| namespace.rescan)
    }

    /// Whether the processes that hold its sockets may have changed.
    pub(super) fn wants_holders(&self, netns: NetnsId, losses: u64, now: Nanos) -> bool {
        self.known.get(&netns).is_none_or(|namespace| {
            let is_old = namespace.scanned_at.saturating_add(STALL_PERIOD) < now;
            namespace.changed
                || namespace.has_connections && is_old
                || namespace.losses_at_scan.is_none_or(|known| losses > known)
        })
    }

    /// The namespaces without a transition or a scan since this time, except those that sockets kept
    /// alive shortly before this number of scans of all open files.
    pub(super) fn quiet_since(&self, time: Nanos, scans: u32) -> impl Iterator<Item = NetnsId> {
        let is_kept = move |namespace: &Namespace| {
            namespace.unlisted_in.is_some_and(|last| scans < last.saturating_add(HOLDER_SCANS))
        };
        let is_quiet =
            move |namespace: &Namespace| namespace.last_seen < time && !is_kept(namespace);
        self.known.iter().filter(move |(_, it)| is_quiet(it)).map(|(&netns, _)| netns)
    }

    /// Whether sockets keep the namespace alive, which a list of all namespaces lacks.
    pub(super) fn is_unlisted(&self, netns: NetnsId) -> bool {
        self.known.get(&netns).is_some_and(|namespace| namespace.unlisted_in.is_some())
    }

    /// Notes that sockets keep a namespace alive which a list of all namespaces lacks.
    pub(super) fn keep_unlisted(&mut self, netns: NetnsId, scans: u32) {
        if let Some(namespace) = self.known.get_mut(&netns) {
            namespace.unlisted_in = Some(scans);
            // The next record counts.
            self.changed = None;
        }
    }

    /// Forgets a namespace that is gone.
    pub(super) fn remove(&mut self, netns: NetnsId) {
        self.known.remove(&netns);
        if self.changed == Some(netns) {
            self.changed = None;
        }
    }

    /// Whether the kernel's counters could show that a scan is wanted: those of listeners grow
    /// without a record.
    pub(super) fn wants_counters(&self, netns: NetnsId) -> bool {
        self.known.get(&netns).is_some_and(|namespace| namespace.has_listeners)
    }

    fn at(&mut self, netns: NetnsId, now: Nanos) -> &mut Namespace {
        if self.known.len() >= LIMIT && !self.known.contains_key(&netns) {
            let least_active = self.known.iter().min_by_key(|(_, namespace)| namespace.last_seen);
            if let Some((&least_active, _)) = least_active {
                self.known.remove(&least_active);
                self.changed = None;
            }
        }
        let namespace = self.known.entry(netns).or_default();
        namespace.last_seen = namespace.last_seen.max(now);
        namespace
    }
}
