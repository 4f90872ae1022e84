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
        self.settle_all(|netns, _| gone.contains(&netns));
        let kept = self.kept_by_sockets(&gone, list.time);
        self.keep_unlisted(&kept);
        gone.retain(|netns| !kept.contains(netns));
        if gone.is_empty() {
            return;
        }
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
                row.unsettled.remove(&netns);
            }
        }
    }

    /// Those of these namespaces that sockets keep alive: a process has them open, or they are orphans.
    /// Until open files are scanned, all known sockets count as open.
    fn kept_by_sockets(&self, gone: &HashSet<NetnsId>, now: Nanos) -> HashSet<NetnsId> {
        let keeps = |netns, is_held| is_held || !self.namespaces.is_unlisted(netns);
        let listeners = self.listeners.iter().map(|it| (it.netns, it.is_held));
        let listeners = listeners.filter(|&(netns, is_held)| keeps(netns, is_held));
        let connections = self.connections.iter().map(|(_, it)| it).filter(|connection| {
            gone.contains(&connection.netns)
                && (keeps(connection.netns, connection.flags.is_held())
                    || state::is_closing(connection.state)
                        && connection.last_transition.saturating_add(LONGEST_ORPHAN) > now)
        });
        let kept = listeners.map(|(netns, _)| netns).chain(connections.map(|it| it.netns));
        kept.filter(|netns| gone.contains(netns)).collect()
    }

    /// Keeps namespaces that sockets keep alive, until scans of open files find no holder any more.
    fn keep_unlisted(&mut self, kept: &HashSet<NetnsId>) {
        for &netns in kept {
            self.namespaces.keep_unlisted(netns, self.holder_scans);
        }
        if kept.is_empty() {
            return;
        }
        for (_, listener) in self.listeners.iter_mut() {
            listener.is_held &= !kept.contains(&listener.netns);
        }
        for (_, connection) in self.connections.iter_mut() {
            if kept.contains(&connection.netns) {
                connection.flags.set_is_held(false);
            }
        }
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
