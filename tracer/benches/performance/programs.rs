//! The cost of eBPF programs of any process, as the kernel measures it.

use std::collections::BTreeMap;

use aya::programs::loaded_programs;

/// Run time and number of runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) ns: u64,
    pub(crate) runs: u64,
}

/// The loaded programs, by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Programs(BTreeMap<u32, (String, Spent)>);

impl Programs {
    pub(crate) fn now() -> Self {
        let mut programs = BTreeMap::new();
        for info in loaded_programs() {
            // A program may be unloaded while they are listed.
            let Ok(info) = info else { continue };
            let spent = Spent { ns: info.run_time().as_nanos() as u64, runs: info.run_count() };
            let name = info.name_as_str().unwrap_or_default().to_owned();
            programs.insert(info.id(), (name, spent));
        }
        Self(programs)
    }

    /// The programs that `earlier` does not have.
    pub(crate) fn without(mut self, earlier: &Self) -> Self {
        self.0.retain(|id, _| !earlier.0.contains_key(id));
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The run time since `earlier` of the programs whose names match.
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
