//! One minute at the machine's full rate, with default settings and a report every second.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{
    load::{Carried, Done, Load},
    tracer::{Events, Synfin},
    usage::{self, Usage},
};

const LOAD: Load = Load::Short { connections: u64::MAX, ms: 60_000, carrying: Carried::Reply };

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Rate {
    pub(crate) done: Done,
    pub(crate) events: Events,
    /// CPU time of synfin during the load.
    pub(crate) own: Usage,
    /// Memory at the end of the load, in bytes.
    pub(crate) memory: u64,
}

pub(crate) fn measure(synfin: &Synfin) -> Result<Rate> {
    let tracer = synfin.watch(&["report", "1", "-o", "json"])?;
    let before = usage::of_process(tracer.pid())?;
    let (done, _) = LOAD.run()?;
    let own = usage::of_process(tracer.pid())?.since(before);
    let memory = usage::memory(tracer.pid())?;
    Ok(Rate { done, events: tracer.finish()?.events()?, own, memory })
}

impl Rate {
    pub(crate) fn user_seconds_per_million(&self) -> f64 {
        self.own.user / self.done.transitions() as f64 * 1e6
    }

    /// Missing records that the ring did not lose, as a share of all.
    pub(crate) fn missing_share(&self) -> f64 {
        (self.events.missed + self.events.gaps) as f64 / self.events.seen as f64
    }
}
