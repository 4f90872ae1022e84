//! Names of cgroups and network namespaces, which the kernel identifies by number. A live
//! trace resolves and records them, so a replay reads nothing from the host.

use crate::{
    host::{cgroups::Hierarchy, namespaces::Listing},
    trace::{decode::cgroups_in, ids::NetnsId, names::Names, recent::Recent, recording::Frame},
};

/// Number of ids that are remembered as resolved, half of what the tracker remembers: so an id that it
/// has forgotten is resolved again when it is used again.
const NAMES_LIMIT: usize = 1 << 15;

/// Resolves each id to a name once.
#[derive(Debug)]
pub(crate) struct NameResolver {
    hierarchy: Option<Hierarchy>,
    cgroups: Recent<u64, ()>,
    /// Whether the namespace had a name.
    namespaces: Recent<NetnsId, bool>,
}

impl NameResolver {
    pub(crate) fn new() -> Self {
        Self {
            hierarchy: Hierarchy::find().ok(),
            cgroups: Recent::new(NAMES_LIMIT),
            namespaces: Recent::new(NAMES_LIMIT),
        }
    }

    /// Names of the cgroups in a frame that have not been returned before.
    pub(crate) fn names_in(&mut self, frame: &Frame) -> Names {
        let mut names = Names::default();
        let Some(hierarchy) = &self.hierarchy else {
            return names;
        };
        cgroups_in(frame, |id| {
            if id != 0 && self.cgroups.get(&id).is_none() {
                self.cgroups.insert(id, ());
                // A cgroup that has been removed already has no name.
                names.cgroups.extend(hierarchy.name(id).map(|name| (id, name)));
            }
        });
        names
    }

    /// The names and inode numbers of namespaces that have not been returned before.
    pub(crate) fn new_namespaces(&mut self, listing: &Listing) -> Names {
        let (mut namespaces, mut inodes) = (listing.names(), listing.inodes());
        for &id in listing.namespaces.keys() {
            let is_named = namespaces.contains_key(&id);
            let known = self.namespaces.get(&id);
            if known.is_some() {
                inodes.remove(&id);
            }
            if known == Some(&true) {
                namespaces.remove(&id);
            }
            if known != Some(&is_named) {
                self.namespaces.insert(id, is_named);
            }
        }
        Names { namespaces, inodes, ..Names::default() }
    }
}
