//! Names of network namespaces, and the end of those that are gone.

use std::collections::HashSet;

use crate::{
    trace::{
        ids::{NetnsId, NetnsInode},
        names::Names,
        scan::NamespaceList,
    },
    tracker::Tracker,
};

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

    /// Ends the namespaces that are missing in a complete list. The kernel destroys a namespace that
    /// neither a process nor a mount nor a socket keeps, and its TIME_WAITs with it
    /// (`net/ipv4/tcp_minisocks.c:tcp_twsk_purge`).
    pub(in crate::tracker) fn apply_namespace_list(&mut self, list: &NamespaceList) {
        let listed: HashSet<_> = list.namespaces.iter().copied().collect();
        let mut gone: HashSet<_> = self.namespaces.quiet_since(list.time).collect();
        gone.retain(|netns| !listed.contains(netns));
        if gone.is_empty() {
            return;
        }
        // A socket keeps its namespace while a process has it open.
        for (netns, _) in self.listeners.addresses() {
            gone.remove(&netns);
        }
        for (_, connection) in self.connections.iter() {
            gone.remove(&connection.netns);
        }
        if gone.is_empty() {
            return;
        }
        self.settle_all(|netns, _| gone.contains(&netns));
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
}
