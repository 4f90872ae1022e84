//! Memory: a million connections open at the same time, and ten million one after the other.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    load::{Carried, Load},
    median,
    tracer::Synfin,
    usage,
};

/// On loopback both ends are traced, and each counts as a connection.
const OPEN: u64 = 500_000;

const SOAK: u64 = 10_000_000;
const SAMPLE: Duration = Duration::from_secs(10);

/// Samples until all bounded tables are full: a TIME_WAIT lasts a minute and the timer's delay.
const FILLING: usize = 9;

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Open {
    pub(crate) connections: u64,
    before: u64,
    after: u64,
    /// The peak, including the close and the next scan.
    pub(crate) peak: u64,
}

pub(crate) fn open(synfin: &Synfin) -> Result<Open> {
    let tracer = synfin.watch(&["report", "1", "-o", "json"])?;
    thread::sleep(SAMPLE / 5);
    let before = usage::memory(tracer.pid())?;
    let mut load = Load::Hold { connections: OPEN, port: None }.start()?;
    let connections = load.done()?.connections * 2;
    let after = usage::memory(tracer.pid())?;
    // A scan of all of them.
    thread::sleep(2 * SAMPLE);
    load.end()?;
    thread::sleep(SAMPLE);
    let peak = usage::peak_memory(tracer.pid())?;
    let lost = tracer.finish()?.events()?.lost;
    ensure!(lost == 0, "{lost} records were lost, so connections are missing");
    Ok(Open { connections, before, after, peak })
}

impl Open {
    pub(crate) fn bytes_each(&self) -> f64 {
        (self.after - self.before) as f64 / self.connections as f64
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Soak {
    pub(crate) connections: u64,
    /// Memory in bytes, one sample per [`SAMPLE`].
    memory: Vec<u64>,
    pub(crate) lost: u64,
}

pub(crate) fn soak(synfin: &Synfin) -> Result<Soak> {
    let tracer = synfin.watch(&["report", "1", "-o", "json"])?;
    let mut load =
        Load::Short { connections: SOAK, ms: u64::MAX, carrying: Carried::Reply }.start()?;
    let mut memory = Vec::new();
    let done = thread::scope(|scope| {
        let waiting = scope.spawn(|| load.done());
        while !waiting.is_finished() {
            thread::sleep(SAMPLE);
            memory.push(usage::memory(tracer.pid())?);
        }
        waiting.join().expect("it does not panic")
    })?;
    load.end()?;
    let lost = tracer.finish()?.events()?.lost;
    Ok(Soak { connections: done.connections, memory, lost })
}

impl Soak {
    /// The maximum once all tables are full, and the growth from the first to the last quarter of that
    /// time by their medians: single samples are taken in the middle of a scan.
    pub(crate) fn most_and_growth(&self) -> Option<(u64, f64)> {
        let later = self.memory.get(FILLING..)?;
        let quarter = later.len().div_ceil(4);
        let middle = |samples: &[u64]| median(samples.iter().map(|&bytes| bytes as f64));
        let growth = middle(&later[later.len() - quarter..]) / middle(&later[..quarter]) - 1.0;
        Some((*later.iter().max()?, growth))
    }
}
