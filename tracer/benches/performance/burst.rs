//! Stalls the reader while the machine runs at its full rate.

use std::{thread, time::Duration};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    load::{Carried, Load},
    tracer::{Events, Synfin},
};

const LOAD: Load = Load::Short { connections: u64::MAX, ms: 8_000, carrying: Carried::Reply };

/// Time from the start of the load to the stall.
const WARM_UP: Duration = Duration::from_secs(2);

const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Burst {
    /// Stalled for half a second, with the default ring.
    pub(crate) short: Events,
    /// Size of the default ring in bytes.
    pub(crate) default_ring: u64,
    /// Stalled for two seconds, with the ring that `doctor` recommends.
    pub(crate) long: Events,
    /// Size of that ring in bytes.
    pub(crate) named_ring: u64,
}

pub(crate) fn measure(synfin: &Synfin) -> Result<Burst> {
    let short = stalled(synfin, SHORT, &[])?;
    let load = LOAD.start()?;
    thread::sleep(WARM_UP);
    let doctor = synfin.run(&["doctor", "-o", "json", "--for", "3s"])?.json();
    load.end()?;
    let ring = &doctor?["ring"];
    let bytes = |key: &str| ring[key].as_u64().with_context(|| format!("no {key} in {ring}"));
    let (named_ring, default_ring) = (bytes("needed_bytes")?, bytes("default_bytes")?);
    let long = stalled(synfin, LONG, &["--ring-size", &named_ring.to_string()])?;
    Ok(Burst { short, default_ring, long, named_ring })
}

fn stalled(synfin: &Synfin, time: Duration, args: &[&str]) -> Result<Events> {
    let tracer = synfin.watch(&[&["report", "-o", "json"], args].concat())?;
    let load = LOAD.start()?;
    thread::sleep(WARM_UP);
    tracer.stall(time)?;
    load.end()?;
    tracer.finish()?.events()
}
