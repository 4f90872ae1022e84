//! Names that were given, for files that begin later: each is given its own before a number is used
//! for the first time in it.

use std::collections::{BTreeMap, HashMap, HashSet};

use rustc_hash::FxBuildHasher;

use crate::trace::{
    decode::cgroups_in,
    ids::NetnsId,
    names::{CgroupName, Names},
    recording::Frame,
};

/// Of more cgroups than this, only those stay known of which the present file speaks.
const CGROUPS_LIMIT: usize = 1 << 16;

/// The same of namespaces.
const NAMESPACES_LIMIT: usize = 4096;

/// The names known so far.
#[derive(Default)]
pub(super) struct NameCache {
    cgroups: HashMap<u64, CgroupName, FxBuildHasher>,
    namespaces: BTreeMap<NetnsId, String>,
    /// Cgroups whose names the present file has.
    given: HashSet<u64, FxBuildHasher>,
    /// Namespaces that the present file has scanned or named.
    spoken: HashSet<NetnsId, FxBuildHasher>,
}

impl NameCache {
    /// A new file begins.
    pub(super) fn begin(&mut self) {
        self.given.clear();
        self.spoken.clear();
    }

    /// Names of all namespaces.
    pub(super) fn namespaces(&self) -> &BTreeMap<NetnsId, String> {
        &self.namespaces
    }

    /// Takes names that the present file has.
    pub(super) fn learn_namespaces(&mut self, names: &BTreeMap<NetnsId, String>) {
        for (&netns, name) in names {
            if self.namespaces.len() >= NAMESPACES_LIMIT {
                self.namespaces.retain(|netns, _| self.spoken.contains(netns));
            }
            if self.namespaces.len() < NAMESPACES_LIMIT {
                self.namespaces.insert(netns, name.clone());
                self.spoken.insert(netns);
            }
        }
    }

    /// Takes note of what a frame names or speaks of. Gives the names that the present file lacks
    /// for it.
    pub(super) fn missing_in(&mut self, frame: &Frame) -> Names {
        let mut missing = Names::default();
        match frame {
            Frame::Names(names) => self.learn(names),
            Frame::ScanBegin(begin) if self.namespaces.contains_key(&begin.netns) => {
                self.spoken.insert(begin.netns);
            }
            _ => cgroups_in(frame, |id| {
                if let Some(name) = self.cgroups.get(&id)
                    && self.given.insert(id)
                {
                    missing.cgroups.insert(id, name.clone());
                }
            }),
        }
        missing
    }

    fn learn(&mut self, names: &Names) {
        for (&id, name) in &names.cgroups {
            if self.cgroups.len() >= CGROUPS_LIMIT {
                self.cgroups.retain(|id, _| self.given.contains(id));
            }
            if self.cgroups.len() < CGROUPS_LIMIT {
                self.cgroups.insert(id, name.clone());
                self.given.insert(id);
            }
        }
        self.learn_namespaces(&names.namespaces);
    }
}
