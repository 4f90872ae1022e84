//! A bounded map that forgets what was inserted longest ago.

use std::{collections::HashMap, hash::Hash, mem};

use rustc_hash::FxBuildHasher;

/// A map with at most so many entries, in two generations. When the young one is full, the old one is
/// forgotten: an entry stays at least until half of the limit has been inserted after it.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    young: HashMap<K, V, FxBuildHasher>,
    old: HashMap<K, V, FxBuildHasher>,
    /// Maximum size of a generation.
    limit: usize,
    forgotten: u64,
}

impl<K: Hash + Eq, V> Recent<K, V> {
    /// An empty map for `limit` entries.
    pub(crate) fn new(limit: usize) -> Self {
        let (young, old) = Default::default();
        Self { young, old, limit: (limit / 2).max(1), forgotten: 0 }
    }

    /// Inserts an entry, or replaces its value. Returns whether its key is new.
    pub(crate) fn insert(&mut self, key: K, value: V) -> bool {
        let mut is_new = self.old.remove(&key).is_none();
        if self.young.len() >= self.limit && !self.young.contains_key(&key) {
            let forgotten = mem::replace(&mut self.old, mem::take(&mut self.young));
            self.forgotten += forgotten.len() as u64;
        }
        is_new &= self.young.insert(key, value).is_none();
        is_new
    }

    /// Removes an entry and returns its value.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// All entries, in any order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.young.iter().chain(&self.old)
    }

    /// Number of entries that were forgotten so far.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_entries_are_kept() {
        let mut recent = Recent::<u32, u32>::new(8);
        for number in 0..100_u32 {
            assert!(recent.insert(number, number));
            assert!(!recent.insert(number, number));
            assert!((number.saturating_sub(3)..=number).all(|kept| recent.get(&kept).is_some()));
            assert!(recent.iter().count() <= 8);
        }
        assert_eq!(recent.get(&90), None);
        assert_eq!(recent.forgotten(), (100 - recent.iter().count()) as u64);
        recent.insert(96, 1);
        assert_eq!(recent.get(&96), Some(&1));
        assert_eq!((recent.remove(&96), recent.remove(&96)), (Some(1), None));
    }
}
