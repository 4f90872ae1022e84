//! The cost of tracing: each tracer runs beside the same load, one after the other, several times.

use anyhow::{Context as _, Result, ensure};
use aya::sys::{Stats, enable_stats};
use serde::{Deserialize, Serialize};

use crate::{
    floor::{self, Floor},
    load::{Carried, Load},
    median,
    tracer::{Synfin, Tracer},
    usage::{self, Usage},
};

const ROUNDS: usize = 5;
const SECONDS: u64 = 4;

/// The kernel's name of the main hook, and the programs that only run for scans.
const MAIN_HOOK: &str = "state_change";
const SCAN_PROGRAMS: [&str; 2] = ["scan_sockets", "scan_open_files"];

/// The peers of libbpf-tools.
const PEERS: [&str; 2] = ["tcpstates", "tcplife"];

/// The measurements of the load with a request and a reply, and of that with neither.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Cost {
    pub(crate) reply: OfLoad,
    pub(crate) nothing: OfLoad,
    /// With the minimal program on the same transitions: nanoseconds per transition of all of synfin's
    /// hooks, of its main hook, and of the minimal program.
    floor: Vec<[f64; 3]>,
}

/// The measurements of a load.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct OfLoad {
    untraced: Vec<TracedLoad>,
    synfin: Vec<TracedLoad>,
    /// In the order of [`PEERS`].
    peers: Vec<Vec<TracedLoad>>,
}

/// The measurements of a load and a tracer beside it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct TracedLoad {
    connections_per_second: f64,
    /// CPU seconds of the load, including eBPF programs that interrupt it.
    load: f64,
    /// Nanoseconds in eBPF programs per transition.
    ns: f64,
    /// CPU seconds of those programs.
    programs: f64,
    /// CPU time of the tracer itself during the load.
    own: Usage,
}

impl TracedLoad {
    /// The tracer's total cost as a share of the load's CPU time.
    fn share(&self) -> f64 {
        (self.programs + self.own.total()) / self.load
    }
}

pub(crate) fn measure(synfin: &Synfin) -> Result<Cost> {
    // The statistics take time themselves, so they are enabled for this measurement only.
    let _statistics = enable_stats(Stats::RunTime)
        .context("cannot enable the kernel's statistics of programs: run this as root")?;
    let mut cost = Cost { reply: OfLoad::new(), nothing: OfLoad::new(), floor: Vec::new() };
    for _ in 0..ROUNDS {
        cost.reply.measure(synfin, load(Carried::Reply))?;
        cost.nothing.measure(synfin, load(Carried::Nothing))?;
        cost.floor.push(trace_load_with_floor(synfin)?);
    }
    Ok(cost)
}

fn load(carrying: Carried) -> Load {
    Load::Short { connections: u64::MAX, ms: SECONDS * 1_000, carrying }
}

fn trace_load(tracer: Tracer, load: Load) -> Result<TracedLoad> {
    let before = (tracer.programs(), usage::of_process(tracer.pid())?);
    let (done, used) = load.run()?;
    let own = usage::of_process(tracer.pid())?.since(before.1);
    let spent = tracer.programs().spent_since(&before.0, |name| !SCAN_PROGRAMS.contains(&name));
    tracer.finish()?;
    ensure!(spent.runs > 0, "the kernel does not report the run time of programs");
    Ok(TracedLoad {
        connections_per_second: done.per_second(),
        load: used.total(),
        ns: spent.ns as f64 / done.transitions() as f64,
        programs: spent.ns as f64 / 1e9,
        own,
    })
}

fn trace_load_with_floor(synfin: &Synfin) -> Result<[f64; 3]> {
    let tracer = synfin.watch(&["report", "1", "-o", "json"])?;
    let floor = Floor::attach()?;
    let before = tracer.programs();
    let (done, _) = load(Carried::Reply).run()?;
    let after = tracer.programs();
    drop(floor);
    let lost = tracer.finish()?.events()?.lost;
    ensure!(lost == 0, "{lost} records were lost, so the measured cost is too low");
    let each = |wanted: &dyn Fn(&str) -> bool| {
        after.spent_since(&before, wanted).ns as f64 / done.transitions() as f64
    };
    let is_hook = |name: &str| !SCAN_PROGRAMS.contains(&name) && name != floor::NAME;
    Ok([each(&is_hook), each(&|name| name == MAIN_HOOK), each(&|name| name == floor::NAME)])
}

impl Cost {
    /// Number of rounds.
    pub(crate) fn rounds(&self) -> usize {
        self.floor.len()
    }

    /// Nanoseconds per transition of all of synfin's hooks as a multiple of the minimal program's.
    pub(crate) fn times_floor(&self) -> f64 {
        median(self.floor.iter().map(|[all, _, bare]| all / bare))
    }
}

impl OfLoad {
    fn new() -> Self {
        let (untraced, synfin) = Default::default();
        Self { untraced, synfin, peers: vec![Vec::new(); PEERS.len()] }
    }

    /// Adds a round.
    fn measure(&mut self, synfin: &Synfin, load: Load) -> Result<()> {
        let (done, used) = load.run()?;
        self.untraced.push(TracedLoad {
            connections_per_second: done.per_second(),
            load: used.total(),
            ns: 0.0,
            programs: 0.0,
            own: Usage::default(),
        });
        self.synfin.push(trace_load(synfin.watch(&["report", "1", "-o", "json"])?, load)?);
        for (peer, results) in PEERS.iter().zip(&mut self.peers) {
            results.push(trace_load(Tracer::other(peer)?, load)?);
        }
        Ok(())
    }

    fn of_all(results: &[TracedLoad], value: impl Fn(&TracedLoad) -> f64) -> f64 {
        median(results.iter().map(value))
    }

    /// Nanoseconds per transition of all of synfin's hooks.
    pub(crate) fn ns(&self) -> f64 {
        Self::of_all(&self.synfin, |it| it.ns)
    }

    /// The total cost as a share of the load's CPU time.
    pub(crate) fn share(&self) -> f64 {
        Self::of_all(&self.synfin, TracedLoad::share)
    }

    /// CPU seconds of the load per transition without a tracer.
    pub(crate) fn load_per_transition(&self) -> f64 {
        Self::of_all(&self.untraced, |it| {
            it.load / (it.connections_per_second * 10.0 * SECONDS as f64)
        })
    }

    /// A row for each tracer: its name, connections/s as a share of the untraced rate, nanoseconds in
    /// programs per transition, and the total cost as a share of the load's CPU time.
    pub(crate) fn table(&self) -> Vec<(&'static str, f64, f64, f64)> {
        let untraced = self.untraced_per_second();
        let row = |name: &'static str, results: &[TracedLoad]| {
            let rate = Self::of_all(results, |it| it.connections_per_second);
            let ns = Self::of_all(results, |it| it.ns);
            (name, rate / untraced, ns, Self::of_all(results, TracedLoad::share))
        };
        let peers = PEERS.into_iter().zip(&self.peers).map(|(name, results)| row(name, results));
        [row("synfin", &self.synfin)].into_iter().chain(peers).collect()
    }

    /// Connections per second without a tracer.
    pub(crate) fn untraced_per_second(&self) -> f64 {
        Self::of_all(&self.untraced, |it| it.connections_per_second)
    }
}
