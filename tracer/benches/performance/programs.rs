//! What eBPF programs cost, whoever loaded them: the kernel itself measures them.

use std::collections::BTreeMap;

use aya::programs::loaded_programs;

/// Time and number of runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) ns: u64,
    pub(crate) runs: u64,
}

/// The programs that are loaded, by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Programs(BTreeMap<u32, (String, Spent)>);

impl Programs {
    pub(crate) fn now() -> Self {
        let mut programs = BTreeMap::new();
        for info in loaded_programs() {
            // One may go while they are listed.
            let Ok(info) = info else { continue };
            let spent = Spent { ns: info.run_time().as_nanos() as u64, runs: info.run_count() };
            let name = info.name_as_str().unwrap_or_default().to_owned();
            programs.insert(info.id(), (name, spent));
        }
        Self(programs)
    }

    /// Those that were not there then.
    pub(crate) fn without(mut self, earlier: &Self) -> Self {
        self.0.retain(|id, _| !earlier.0.contains_key(id));
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What those that are wanted, by name, have spent since.
    pub(crate) fn spent_since(&self, earlier: &Self, wanted: impl Fn(&str) -> bool) -> Spent {
        let mut sum = Spent::default();
        for (id, (name, spent)) in &self.0 {
            if wanted(name) {
                let before = earlier.0.get(id).map_or(Spent::default(), |(_, spent)| *spent);
                sum.ns += spent.ns - before.ns;
                sum.runs += spent.runs - before.runs;
            }
        }
        sum
    }
}
