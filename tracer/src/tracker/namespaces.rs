//! What is known of each network namespace: which were walked, and where something has happened
//! since. Bounded, as containers come and go.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::input::{Nanos, NetnsId};

/// More namespaces than this are not told apart: the one that was quiet for longest is forgotten,
/// and walked anew if it still exists.
const LIMIT: usize = 4096;

#[derive(Clone, Copy, Debug, Default)]
struct Namespace {
    /// Something has happened since the last walk began.
    changed: bool,
    /// How many losses were known when the last complete walk began; `None`: never walked.
    losses_at_walk: Option<u64>,
    last_seen: Nanos,
}

/// All namespaces, by inode number.
#[derive(Debug, Default)]
pub(super) struct Namespaces(HashMap<NetnsId, Namespace, FxBuildHasher>);

impl Namespaces {
    /// Something happened there.
    pub(super) fn change(&mut self, netns: NetnsId, now: Nanos) {
        self.at(netns, now).changed = true;
    }

    /// A walk begins: what happens from here on is new again.
    pub(super) fn walk_begins(&mut self, netns: NetnsId, now: Nanos) {
        self.at(netns, now).changed = false;
    }

    /// A walk came to its end; `losses` were known when it began.
    pub(super) fn walked(&mut self, netns: NetnsId, now: Nanos, losses: u64) {
        self.at(netns, now).losses_at_walk = Some(losses);
    }

    /// How many losses were known when it was last walked; `None`: never.
    pub(super) fn losses_at_walk(&self, netns: NetnsId) -> Option<u64> {
        self.0.get(&netns)?.losses_at_walk
    }

    /// Whether a walk could show anything new, with so many losses known by now.
    pub(super) fn wants_walk(&self, netns: NetnsId, losses: u64) -> bool {
        self.0.get(&netns).is_none_or(|namespace| {
            namespace.changed || namespace.losses_at_walk.is_none_or(|known| losses > known)
        })
    }

    fn at(&mut self, netns: NetnsId, now: Nanos) -> &mut Namespace {
        if self.0.len() >= LIMIT && !self.0.contains_key(&netns) {
            let quietest = self.0.iter().min_by_key(|(_, namespace)| namespace.last_seen);
            if let Some((&quietest, _)) = quietest {
                self.0.remove(&quietest);
            }
        }
        let namespace = self.0.entry(netns).or_default();
        namespace.last_seen = namespace.last_seen.max(now);
        namespace
    }
}
