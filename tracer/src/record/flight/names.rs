//! Names of namespaces and cgroups, which each file needs before it uses their numbers.

use std::collections::BTreeMap;

use crate::trace::{
    decode::cgroups_in,
    ids::{NetnsId, NetnsInode},
    names::{CgroupName, Names},
    recent::Recent,
    recording::Frame,
    session::Session,
};

/// Maximum number of cgroups.
const CGROUPS_LIMIT: usize = 1 << 16;

/// Maximum number of namespaces.
const NAMESPACES_LIMIT: usize = 4096;

/// The names known so far.
pub(super) struct NameCache {
    cgroups: Recent<u64, CgroupName>,
    namespaces: Recent<NetnsId, String>,
    inodes: Recent<NetnsId, NetnsInode>,
    /// Cgroups whose names are in the current file.
    given: Recent<u64, ()>,
}

impl Default for NameCache {
    fn default() -> Self {
        Self {
            cgroups: Recent::new(CGROUPS_LIMIT),
            namespaces: Recent::new(NAMESPACES_LIMIT),
            inodes: Recent::new(NAMESPACES_LIMIT),
            given: Recent::new(CGROUPS_LIMIT),
        }
    }
}

impl NameCache {
    /// Begins a new file, whose session gets the names and inode numbers of all namespaces.
    pub(super) fn begin(&mut self, session: &mut Session) {
        self.given = Recent::new(CGROUPS_LIMIT);
        session.namespaces = self.namespaces.iter().map(|(&id, name)| (id, name.clone())).collect();
        session.inodes = self.inodes.iter().map(|(&id, &inode)| (id, inode)).collect();
    }

    /// Adds names and inode numbers that are in the current file.
    pub(super) fn learn_namespaces(
        &mut self,
        names: &BTreeMap<NetnsId, String>,
        inodes: &BTreeMap<NetnsId, NetnsInode>,
    ) {
        for (&netns, name) in names {
            self.namespaces.insert(netns, name.clone());
        }
        for (&netns, &inode) in inodes {
            self.inodes.insert(netns, inode);
        }
    }

    /// Notes the names and numbers in a frame. Returns the names that the current file lacks for it.
    pub(super) fn missing_in(&mut self, frame: &Frame) -> Names {
        let mut missing = Names::default();
        match frame {
            Frame::Names(names) => self.learn(names),
            // A namespace that is used stays.
            Frame::ScanBegin(begin) => {
                if let Some(name) = self.namespaces.get(&begin.netns).cloned() {
                    self.namespaces.insert(begin.netns, name);
                }
                if let Some(&inode) = self.inodes.get(&begin.netns) {
                    self.inodes.insert(begin.netns, inode);
                }
            }
            _ => cgroups_in(frame, |id| {
                if self.given.get(&id).is_none()
                    && let Some(name) = self.cgroups.get(&id)
                {
                    missing.cgroups.insert(id, name.clone());
                    self.given.insert(id, ());
                }
            }),
        }
        missing
    }

    fn learn(&mut self, names: &Names) {
        for (&id, name) in &names.cgroups {
            self.cgroups.insert(id, name.clone());
            self.given.insert(id, ());
        }
        self.learn_namespaces(&names.namespaces, &names.inodes);
    }
}
