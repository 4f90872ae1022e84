//! Names of cgroups and network namespaces, which the kernel identifies by number. A live
//! trace resolves and records them, so a replay reads nothing from the host.

use std::collections::HashSet;

use rustc_hash::FxBuildHasher;

use crate::{
    host::cgroups::Hierarchy,
    trace::{decode::cgroups_in, ids::NetnsId, names::Names, recording::Frame},
};

/// Maximum number of ids that are remembered as resolved. Beyond it, all are forgotten and
/// resolved again, because containers come and go.
const NAMES_LIMIT: usize = 1 << 16;

/// Resolves each id to a name once.
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

    /// Names of the cgroups in a frame that have not been returned before.
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
                // A cgroup that has been removed already has no name.
                names.cgroups.extend(hierarchy.name(id).map(|name| (id, name)));
            }
        });
        names
    }

    /// Those of `names` that have not been returned before.
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
