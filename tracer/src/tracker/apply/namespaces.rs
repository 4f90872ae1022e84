//! Names of network namespaces, and the end of those that are gone.

use std::collections::{BTreeMap, HashSet};

use crate::{
    tcp::state,
    trace::{
        ids::{NetnsId, NetnsInode, SockId},
        names::Names,
        scan::NamespaceList,
        time::Nanos,
    },
    tracker::Tracker,
};

/// Maximum time for which an orphan in these states is assumed to live (`tcp_orphan_retries`,
/// `tcp_fin_timeout`).
const LONGEST_ORPHAN: Nanos = 600_000_000_000;

impl Tracker {
    pub(in crate::tracker) fn apply_names(&mut self, names: &Names) {
        self.names.learn(names);
        for (&netns, &inode) in &names.inodes {
            self.undecided.learn_inode(netns, inode);
        }
    }

    /// Learns the inode number of a namespace from a record.
    pub(in crate::tracker) fn learn_inode(&mut self, netns: NetnsId, inode: NetnsInode) {
        if self.names.learn_inode(netns, inode) {
            self.undecided.learn_inode(netns, inode);
        }
    }

    /// Ends the namespaces that are missing in a complete list, and what is left of them. The kernel
    /// destroys a namespace that neither a process nor a mount nor a socket keeps, and its TIME_WAITs
    /// with it (`net/ipv4/tcp_minisocks.c:tcp_twsk_purge`).
    pub(in crate::tracker) fn apply_namespace_list(&mut self, list: &NamespaceList) {
        let listed: HashSet<_> = list.namespaces.iter().copied().collect();
        let quiet = self.namespaces.quiet_since(list.time, self.holder_scans);
        let mut gone: HashSet<_> = quiet.collect();
        gone.retain(|netns| !listed.contains(netns));
        if gone.is_empty() {
            return;
        }
        for netns in self.kept_by_sockets(&gone, list.time) {
            self.namespaces.keep_unlisted(netns, self.holder_scans);
            gone.remove(&netns);
        }
        if gone.is_empty() {
            return;
        }
        self.settle_all(|netns, _| gone.contains(&netns));
        self.undecided.forget_namespaces(&gone);
        self.listeners.forget_namespaces(&gone);
        self.end_connections_of(&gone, list.time);
        for &netns in &gone {
            self.namespaces.remove(netns);
        }
        self.time_waits.rows.forget_namespaces(&gone);
        for (key, row) in self.rows.iter_mut() {
            for &netns in gone.iter().filter(|&&netns| key.netns == netns || key.netns == 0) {
                row.time_waits.clear(netns);
                row.scanned.remove(&netns);
            }
        }
    }

    /// Those of these namespaces that sockets keep alive: a process has them open, or they are orphans.
    /// Until open files are scanned, all known sockets count as open.
    fn kept_by_sockets(&self, gone: &HashSet<NetnsId>, now: Nanos) -> HashSet<NetnsId> {
        let is_held = |netns: NetnsId, held_in: u32| {
            self.namespaces.unlisted_in(netns).is_none_or(|unlisted| held_in > unlisted)
        };
        let listeners = self.listeners.iter().map(|it| (it.netns, it.held_in));
        let listeners = listeners.filter(|&(netns, held_in)| is_held(netns, held_in));
        let connections = self.connections.iter().map(|(_, it)| it).filter(|connection| {
            gone.contains(&connection.netns)
                && (is_held(connection.netns, connection.scan.held_in)
                    || state::is_closing(connection.state)
                        && connection.last_transition.saturating_add(LONGEST_ORPHAN) > now)
        });
        let kept = listeners.map(|(netns, _)| netns).chain(connections.map(|it| it.netns));
        kept.filter(|netns| gone.contains(netns)).collect()
    }

    /// Ends the connections of namespaces that are gone: the records of their closes were lost.
    fn end_connections_of(&mut self, gone: &HashSet<NetnsId>, time: Nanos) {
        let mut open = BTreeMap::<NetnsId, Vec<SockId>>::new();
        for (sock, connection) in self.connections.iter() {
            if gone.contains(&connection.netns) {
                open.entry(connection.netns).or_default().push(sock);
            }
        }
        for (netns, socks) in open {
            let known_losses = self.namespaces.losses_at_scan(netns).unwrap_or(0);
            let new_losses = self.losses().saturating_sub(known_losses);
            self.records.gaps += (socks.len() as u64).saturating_sub(new_losses);
            for sock in socks {
                self.close_missing(sock, time);
            }
        }
    }
}
