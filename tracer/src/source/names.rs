//! Names for what the kernel numbers, found on this host while it is watched and recorded with
//! the rest: a replay looks nothing up.

use std::collections::HashSet;

use rustc_hash::FxBuildHasher;

use crate::{
    host::cgroups::Hierarchy,
    trace::{decode::cgroups_in, ids::NetnsId, names::Names, recording::Frame},
};

/// After so many, all are looked up anew: containers come and go.
const NAMES_LIMIT: usize = 1 << 16;

/// Looks up names, each number once.
#[derive(Debug)]
pub(crate) struct NameResolver {
    hierarchy: Option<Hierarchy>,
    cgroups: HashSet<u64, FxBuildHasher>,
    namespaces: HashSet<NetnsId, FxBuildHasher>,
}

impl NameResolver {
    pub(crate) fn new() -> Self {
        Self {
            hierarchy: Hierarchy::find().ok(),
            cgroups: HashSet::default(),
            namespaces: HashSet::default(),
        }
    }

    /// Names of the cgroups in a frame that have not been given yet.
    pub(crate) fn names_in(&mut self, frame: &Frame) -> Names {
        let mut names = Names::default();
        let Some(hierarchy) = &self.hierarchy else {
            return names;
        };
        if self.cgroups.len() >= NAMES_LIMIT {
            self.cgroups.clear();
        }
        cgroups_in(frame, |id| {
            if id != 0 && self.cgroups.insert(id) {
                // One that is gone already has no name.
                names.cgroups.extend(hierarchy.name(id).map(|name| (id, name)));
            }
        });
        names
    }

    /// Names of namespaces that have not been given yet.
    pub(crate) fn new_namespaces(
        &mut self,
        names: impl IntoIterator<Item = (NetnsId, String)>,
    ) -> Names {
        if self.namespaces.len() >= NAMES_LIMIT {
            self.namespaces.clear();
        }
        let new = names.into_iter().filter(|(netns, _)| self.namespaces.insert(*netns));
        Names { namespaces: new.collect(), ..Names::default() }
    }
}
