//! What each tracer misses where packets come by interrupt: the kernel skips a program that is already running
//! on the CPU.

use std::fmt::Write as _;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use synfin_testkit::ftrace::Witness;

use crate::{
    load::{Done, Load},
    median,
    tracer::{Synfin, Tracer},
    wire::{self, Link},
};

const ROUNDS: usize = 3;
const MILLISECONDS: u64 = 5_000;

/// The other tracers, and how many lines they print for a connection.
const PEERS: [(&str, u64); 2] = [("tcpstates", 10), ("tcplife", 2)];

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Interrupts(Vec<Loaded>);

/// The results of one load.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Loaded {
    link: Link,
    /// Of all tracers, in this order: synfin, [`PEERS`].
    tracers: Vec<Vec<Missing>>,
    /// Transitions that synfin's second program took, as a share of all.
    recovered: Vec<f64>,
    /// Of what synfin did not report, the transitions for which the kernel ran no program because of the current
    /// process, at most, as a share of all. They do not count as missing.
    withheld: Vec<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Missing {
    connections_per_second: f64,
    /// The share of what should have been reported that was not.
    share: f64,
}

pub(crate) fn measure(synfin: &Synfin) -> Result<Interrupts> {
    Link::ALL
        .into_iter()
        .map(|link| measure_link(synfin, link))
        .collect::<Result<_>>()
        .map(Interrupts)
}

fn measure_link(synfin: &Synfin, link: Link) -> Result<Loaded> {
    let load = Load::Wire { link, ms: MILLISECONDS };
    let (recovered, withheld) = Default::default();
    let mut loaded =
        Loaded { link, tracers: vec![Vec::new(); 1 + PEERS.len()], recovered, withheld };
    for _ in 0..ROUNDS {
        let tracer = synfin.watch(&["report", "-o", "json"])?;
        let witness = Witness::begin();
        let (done, _) = load.run()?;
        let events = tracer.finish()?.events()?;
        let missing = events.lost + events.missed + events.gaps;
        let withheld = missing.min(witness.count() as u64);
        let all = done.transitions();
        loaded.tracers[0].push(Missing::new(done, missing - withheld, all));
        loaded.recovered.push(events.recovered as f64 / all as f64);
        loaded.withheld.push(withheld as f64 / all as f64);
        for ((peer, lines), results) in PEERS.into_iter().zip(&mut loaded.tracers[1..]) {
            let tracer = Tracer::other(peer)?;
            let (done, _) = load.run()?;
            let printed = tracer.finish()?.count_lines(&wire::PORT.to_string());
            let expected = done.connections * lines;
            results.push(Missing::new(done, expected.saturating_sub(printed), expected));
        }
    }
    Ok(loaded)
}

impl Missing {
    fn new(done: Done, missing: u64, all: u64) -> Self {
        Self { connections_per_second: done.per_second(), share: missing as f64 / all as f64 }
    }
}

impl Interrupts {
    /// The largest share that synfin misses, of the medians of all loads.
    pub(crate) fn missed(&self) -> f64 {
        let shares = self.0.iter().map(|loaded| median_share(&loaded.tracers[0]));
        shares.fold(0.0, f64::max)
    }

    /// A table of all loads and tracers.
    pub(crate) fn write(&self, page: &mut String) {
        let names: Vec<_> = std::iter::once("synfin").chain(PEERS.map(|(name, _)| name)).collect();
        for Loaded { link, tracers, recovered, withheld } in &self.0 {
            for (name, results) in names.iter().zip(tracers) {
                let rate = median(results.iter().map(|it| it.connections_per_second));
                let missed = median_share(results) * 1e5;
                let of_synfin = |shares: &[f64]| match *name {
                    "synfin" => format!("{:.0}", median(shares.iter().copied()) * 1e5),
                    _ => "-".to_owned(),
                };
                let [recovered, withheld] = [recovered, withheld].map(|shares| of_synfin(shares));
                let link = link.name();
                let _ = writeln!(
                    page,
                    "| {link} | {name} | {rate:.0} | {missed:.1} | {recovered} | {withheld} |"
                );
            }
        }
    }
}

fn median_share(results: &[Missing]) -> f64 {
    median(results.iter().map(|it| it.share))
}
