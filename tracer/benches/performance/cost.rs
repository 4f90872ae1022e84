//! What tracing costs: each tracer beside the same load, one after the other, several times over.

use anyhow::{Context as _, Result, ensure};
use aya::sys::{Stats, enable_stats};
use serde::{Deserialize, Serialize};

use crate::{
    floor::{self, Floor},
    load::Load,
    median,
    tracer::{Synfin, Tracer},
    usage::{self, Usage},
};

const ROUNDS: usize = 5;
const SECONDS: u64 = 4;
const LOAD: Load = Load::Short { connections: u64::MAX, ms: SECONDS * 1_000 };

/// The main hook's name in the kernel, and the programs that run for surveys only.
const MAIN_HOOK: &str = "state_change";
const SURVEYS: [&str; 2] = ["scan_sockets", "scan_open_files"];

/// The peers of libbpf-tools.
const PEERS: [&str; 2] = ["tcpstates", "tcplife"];

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Cost {
    untraced: Vec<Beside>,
    synfin: Vec<Beside>,
    /// In the order of [`PEERS`].
    peers: Vec<Vec<Beside>>,
    /// With the bare program on the same transitions: nanoseconds per transition of all of synfin's
    /// hooks, of its main hook, and of the bare program.
    floor: Vec<[f64; 3]>,
}

/// A load with a tracer beside it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Beside {
    connections_per_second: f64,
    /// CPU seconds of the load; what programs take while they interrupt it is part of that.
    load: f64,
    /// Nanoseconds in the kernel's programs per transition.
    ns: f64,
    /// CPU seconds of those programs.
    programs: f64,
    /// Of the tracer itself while the load went on.
    own: Usage,
}

impl Beside {
    /// The tracer's whole cost as a share of the load's.
    fn share(&self) -> f64 {
        (self.programs + self.own.total()) / self.load
    }
}

pub(crate) fn measure(synfin: &Synfin) -> Result<Cost> {
    // It takes time itself, so it is on for this only.
    let _statistics = enable_stats(Stats::RunTime)
        .context("cannot turn on the kernel's statistics of programs: is this root?")?;
    let mut cost = Cost {
        untraced: Vec::new(),
        synfin: Vec::new(),
        peers: vec![Vec::new(); PEERS.len()],
        floor: Vec::new(),
    };
    for _ in 0..ROUNDS {
        let (done, load) = LOAD.run()?;
        cost.untraced.push(Beside {
            connections_per_second: done.per_second(),
            load: load.total(),
            ns: 0.0,
            programs: 0.0,
            own: Usage::default(),
        });
        cost.synfin.push(beside(synfin.watch(&["report", "1", "-o", "json"])?)?);
        cost.floor.push(beside_floor(synfin)?);
        for (peer, results) in PEERS.iter().zip(&mut cost.peers) {
            results.push(beside(Tracer::other(peer)?)?);
        }
    }
    Ok(cost)
}

fn beside(tracer: Tracer) -> Result<Beside> {
    let before = (tracer.programs(), usage::of_process(tracer.pid())?);
    let (done, load) = LOAD.run()?;
    let own = usage::of_process(tracer.pid())?.since(before.1);
    let spent = tracer.programs().spent_since(&before.0, |name| !SURVEYS.contains(&name));
    tracer.finish()?;
    ensure!(spent.runs > 0, "the kernel does not tell how long programs ran");
    Ok(Beside {
        connections_per_second: done.per_second(),
        load: load.total(),
        ns: spent.ns as f64 / done.transitions() as f64,
        programs: spent.ns as f64 / 1e9,
        own,
    })
}

fn beside_floor(synfin: &Synfin) -> Result<[f64; 3]> {
    let tracer = synfin.watch(&["report", "1", "-o", "json"])?;
    let floor = Floor::attach()?;
    let before = tracer.programs();
    let (done, _) = LOAD.run()?;
    let after = tracer.programs();
    drop(floor);
    let lost = tracer.finish()?.events()?.lost;
    ensure!(lost == 0, "{lost} records were lost: what is measured is not what it does");
    let each = |wanted: &dyn Fn(&str) -> bool| {
        after.spent_since(&before, wanted).ns as f64 / done.transitions() as f64
    };
    let is_hook = |name: &str| !SURVEYS.contains(&name) && name != floor::NAME;
    Ok([each(&is_hook), each(&|name| name == MAIN_HOOK), each(&|name| name == floor::NAME)])
}

impl Cost {
    /// How often each was measured.
    pub(crate) fn rounds(&self) -> usize {
        self.untraced.len()
    }

    fn of_all(results: &[Beside], figure: impl Fn(&Beside) -> f64) -> f64 {
        median(results.iter().map(figure))
    }

    /// Nanoseconds per transition of all of synfin's hooks.
    pub(crate) fn ns(&self) -> f64 {
        Self::of_all(&self.synfin, |it| it.ns)
    }

    /// The same as a multiple of the bare program's.
    pub(crate) fn times_floor(&self) -> f64 {
        median(self.floor.iter().map(|[all, _, bare]| all / bare))
    }

    /// Nanoseconds per transition of the bare program.
    pub(crate) fn floor_ns(&self) -> f64 {
        median(self.floor.iter().map(|[_, _, bare]| *bare))
    }

    /// Nanoseconds of a tcpstates for one of synfin's.
    pub(crate) fn tcpstates_times(&self) -> f64 {
        let rounds = self.peers[0].iter().zip(&self.synfin);
        median(rounds.map(|(peer, synfin)| peer.ns / synfin.ns))
    }

    /// The whole cost as a share of the load's.
    pub(crate) fn share(&self) -> f64 {
        Self::of_all(&self.synfin, Beside::share)
    }

    /// CPU seconds that the load takes per transition, untraced.
    pub(crate) fn load_per_transition(&self) -> f64 {
        Self::of_all(&self.untraced, |it| {
            it.load / (it.connections_per_second * 10.0 * SECONDS as f64)
        })
    }

    /// A row of each tracer: its name, connections/s as a share of those untraced, nanoseconds in
    /// programs per transition, and the whole cost as a share of the load's.
    pub(crate) fn table(&self) -> Vec<(&'static str, f64, f64, f64)> {
        let untraced = Self::of_all(&self.untraced, |it| it.connections_per_second);
        let row = |name: &'static str, results: &[Beside]| {
            let rate = Self::of_all(results, |it| it.connections_per_second);
            let ns = Self::of_all(results, |it| it.ns);
            (name, rate / untraced, ns, Self::of_all(results, Beside::share))
        };
        let peers = PEERS.into_iter().zip(&self.peers).map(|(name, results)| row(name, results));
        [row("synfin", &self.synfin)].into_iter().chain(peers).collect()
    }

    /// Connections a second with nobody watching.
    pub(crate) fn untraced_per_second(&self) -> f64 {
        Self::of_all(&self.untraced, |it| it.connections_per_second)
    }
}
