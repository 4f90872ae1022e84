//! Stores the results from run to run while the program stays the same.

use std::{
    fs,
    hash::{DefaultHasher, Hasher as _},
    path::Path,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    burst::Burst,
    cost::Cost,
    host::Host,
    interrupts::Interrupts,
    memory::{Open, Soak},
    rate::Rate,
    replay::Replay,
    scan::Scans,
    start::Start,
    synthetic::Synthetic,
    tracer::Synfin,
};

#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Results {
    /// Hash of the measured program.
    program: u64,
    pub(crate) host: Host,
    pub(crate) cost: Option<Cost>,
    #[serde(default)]
    pub(crate) interrupts: Option<Interrupts>,
    #[serde(default)]
    pub(crate) synthetic: Option<Synthetic>,
    pub(crate) rate: Option<Rate>,
    pub(crate) burst: Option<Burst>,
    pub(crate) replay: Option<Replay>,
    pub(crate) open: Option<Open>,
    pub(crate) soak: Option<Soak>,
    pub(crate) scans: Option<Scans>,
    pub(crate) start: Option<Start>,
}

impl Results {
    /// The stored results of this program on this host, or none.
    pub(crate) fn kept(path: &Path, synfin: &Synfin) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        let program =
            fs::read(&synfin.0).with_context(|| format!("cannot read {}", synfin.0.display()))?;
        hasher.write(&program);
        let new = Self { program: hasher.finish(), host: Host::this()?, ..Self::default() };
        let kept = fs::read(path).ok().and_then(|file| serde_json::from_slice::<Self>(&file).ok());
        Ok(kept.filter(|kept| kept.program == new.program && kept.host == new.host).unwrap_or(new))
    }

    pub(crate) fn keep(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }
}
