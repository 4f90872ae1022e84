//! Names of namespaces and cgroups, which each file needs before it uses their numbers.

use std::collections::{BTreeMap, HashMap, HashSet};

use rustc_hash::FxBuildHasher;

use crate::trace::{
    decode::cgroups_in,
    ids::NetnsId,
    names::{CgroupName, Names},
    recording::Frame,
};

/// Maximum number of cgroups; beyond it only those in the current file are kept.
const CGROUPS_LIMIT: usize = 1 << 16;

/// Maximum number of namespaces; beyond it only those in the current file are kept.
const NAMESPACES_LIMIT: usize = 4096;

/// The names known so far.
#[derive(Default)]
pub(super) struct NameCache {
    cgroups: HashMap<u64, CgroupName, FxBuildHasher>,
    namespaces: BTreeMap<NetnsId, String>,
    /// Cgroups whose names are in the current file.
    given: HashSet<u64, FxBuildHasher>,
    /// Namespaces that are scanned or named in the current file.
    spoken: HashSet<NetnsId, FxBuildHasher>,
}

impl NameCache {
    /// Begins a new file.
    pub(super) fn begin(&mut self) {
        self.given.clear();
        self.spoken.clear();
    }

    /// The names of all namespaces.
    pub(super) fn namespaces(&self) -> &BTreeMap<NetnsId, String> {
        &self.namespaces
    }

    /// Adds names that are in the current file.
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

    /// Notes the names and numbers in a frame. Returns the names that the current file lacks for it.
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
