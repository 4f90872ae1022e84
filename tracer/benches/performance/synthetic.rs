//! Records of connections that do not exist, which programs write as fast as they can, on one CPU and on all:
//! what a record costs, and how many the reader takes.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    programs::{RawTracePoint, RawTracePointRunOptions, TestRun as _},
};
use serde::{Deserialize, Serialize};
use synfin::{
    host::clock,
    kernel::{Batch, Ring, RingLayout},
    trace::{decode::decode, recording::Frame},
    tracker::{Limits, Tracker},
};
use synfin_common::config::Config;
use tokio::{
    runtime::{self, Runtime},
    time::timeout,
};
use zerocopy::IntoBytes as _;

use crate::{median, wire::pin};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("SYNFIN_EBPF_DIR"), "/producer.bpf.o"));

/// What a run of a program writes (`tracer-ebpf/src/bin/producer.rs`).
const CONNECTIONS: u64 = 100;
const RECORDS: u64 = 5 * CONNECTIONS;

/// The programs, which write to the ring of their CPU or to the ring buffer that all CPUs share.
const TO_CPU_RING: &str = "produce";
const TO_SHARED: &str = "produce_shared";

/// Runs of each measurement of costs. What a CPU writes fits into its ring, and what two write into the shared one.
const RUNS: u64 = 20;
const ROUNDS: usize = 25;

/// Records per second that the reader has to take, and for how long.
const RATES: [f64; 2] = [3e6, 5e6];
const TIME: Duration = Duration::from_secs(10);

/// The live source (`source/live`) reads as rarely, unless a ring fills.
const PAUSE: Duration = Duration::from_millis(100);
const BATCH_BYTES: usize = 1 << 20;

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Synthetic {
    cpus: usize,
    /// With a ring for each CPU.
    own: Costs,
    /// With the ring buffer that all CPUs share.
    shared: Costs,
    taken: Vec<Taken>,
}

/// Nanoseconds a record, of each round.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Costs {
    alone: Vec<f64>,
    together: Vec<f64>,
}

/// The result of a constant rate.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Taken {
    pub(crate) wanted_per_second: f64,
    pub(crate) per_second: f64,
    pub(crate) written: u64,
    pub(crate) lost: u64,
}

/// The programs and the reader of their records.
struct Producer {
    ebpf: Ebpf,
    ring: Ring,
}

pub(crate) fn measure() -> Result<Synthetic> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let cpus = thread::available_parallelism()?.get();
    let mut producer = Producer::load(cpus)?;
    let own = producer.costs(TO_CPU_RING, cpus)?;
    let shared = producer.costs(TO_SHARED, cpus)?;
    let take = |rate| Producer::load(cpus)?.take(&runtime, rate, cpus);
    let taken = RATES.into_iter().map(take).collect::<Result<_>>()?;
    Ok(Synthetic { cpus, own, shared, taken })
}

impl Producer {
    fn load(cpus: usize) -> Result<Self> {
        let mut config = Config::UNKNOWN;
        let layout = RingLayout::new(&config, cpus as u32, None);
        layout.configure(&mut config);
        let mut loader = EbpfLoader::new();
        loader.override_global("CONFIG", config.as_bytes(), true);
        layout.size_maps(&mut loader);
        let mut ebpf = loader.load(OBJECT)?;
        let ring = Ring::new(&mut ebpf, layout)?;
        for name in [TO_CPU_RING, TO_SHARED] {
            let program: &mut RawTracePoint =
                ebpf.program_mut(name).context("the object has no such program")?.try_into()?;
            program.load()?;
        }
        Ok(Self { ebpf, ring })
    }

    /// What a record costs on one CPU alone, and on all at once.
    fn costs(&mut self, name: &str, cpus: usize) -> Result<Costs> {
        let mut costs = Costs::default();
        for _ in 0..ROUNDS {
            for (results, cpus) in [(&mut costs.alone, 1), (&mut costs.together, cpus)] {
                results.push(at_once(find(&self.ebpf, name)?, cpus)?);
                let read: u64 =
                    std::iter::from_fn(|| self.ring.drain(BATCH_BYTES)).map(|it| it.records).sum();
                let written = RUNS * RECORDS * cpus as u64;
                ensure!(read == written, "{} of {written} records had no room", written - read);
            }
        }
        Ok(costs)
    }

    /// Reads and tracks what all CPUs write at a constant rate, as the live source does.
    fn take(mut self, runtime: &Runtime, rate: f64, cpus: usize) -> Result<Taken> {
        let Self { ebpf, ring } = &mut self;
        let program: &RawTracePoint = find(ebpf, TO_CPU_RING)?;
        let (over, runs) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut tracker = Tracker::new(Limits::default(), clock::monotonic_ns());
        let mut read = |batch: Batch| {
            decode(&Frame::Events(batch.bytes), |input| tracker.apply(&input));
            batch.records
        };
        let mut records = 0;
        let begun = Instant::now();
        let seconds = thread::scope(|scope| -> Result<f64> {
            let writers: Vec<_> = (0..cpus)
                .map(|cpu| {
                    let (over, runs) = (&over, &runs);
                    scope.spawn(move || write_at(program, cpu, rate / cpus as f64, over, runs))
                })
                .collect();
            while begun.elapsed() < TIME {
                // Full or not, the rings are read then.
                let _ = runtime.block_on(async { timeout(PAUSE, ring.filling()).await });
                while let Some(batch) = ring.drain(BATCH_BYTES) {
                    let is_last = batch.bytes.len() < BATCH_BYTES;
                    records += read(batch);
                    if is_last {
                        break;
                    }
                }
            }
            over.store(true, Ordering::Release);
            let seconds = begun.elapsed().as_secs_f64();
            for writer in writers {
                writer.join().expect("it does not panic")?;
            }
            Ok(seconds)
        })?;
        while let Some(batch) = ring.drain(BATCH_BYTES) {
            records += read(batch);
        }
        let written = runs.into_inner() * RECORDS;
        let per_second = written as f64 / seconds;
        Ok(Taken { wanted_per_second: rate, per_second, written, lost: written - records })
    }
}

fn find<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a RawTracePoint> {
    Ok(ebpf.program(name).context("the object has no such program")?.try_into()?)
}

/// Nanoseconds a record if that many CPUs write at once.
fn at_once(program: &RawTracePoint, cpus: usize) -> Result<f64> {
    let barrier = Barrier::new(cpus);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..cpus)
            .map(|cpu| {
                let barrier = &barrier;
                scope.spawn(move || -> Result<f64> {
                    let pinned = pin(cpu);
                    barrier.wait();
                    pinned?;
                    let begun = Instant::now();
                    for number in 0..RUNS {
                        run(program, cpu, number)?;
                    }
                    Ok(begun.elapsed().as_nanos() as f64 / (RUNS * RECORDS) as f64)
                })
            })
            .collect();
        let costs = writers.into_iter().map(|writer| writer.join().expect("it does not panic"));
        Ok(costs.collect::<Result<Vec<_>>>()?.iter().sum::<f64>() / cpus as f64)
    })
}

/// Writes that many records per second, in runs at regular times, until it is over.
fn write_at(
    program: &RawTracePoint,
    cpu: usize,
    rate: f64,
    over: &AtomicBool,
    runs: &AtomicU64,
) -> Result<()> {
    pin(cpu)?;
    let pause = Duration::from_secs_f64(RECORDS as f64 / rate);
    let begun = Instant::now();
    for number in 0_u64.. {
        let due = pause.mul_f64(number as f64);
        thread::sleep(due.saturating_sub(begun.elapsed()));
        if over.load(Ordering::Acquire) {
            break;
        }
        run(program, cpu, number)?;
        runs.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Runs the program on this CPU. Each CPU has connections of its own.
fn run(program: &RawTracePoint, cpu: usize, number: u64) -> Result<()> {
    let mut options = RawTracePointRunOptions::new();
    options.args[0] = ((cpu as u64) << 48) | (number * CONNECTIONS);
    program.test_run(options)?;
    Ok(())
}

impl Costs {
    fn alone(&self) -> f64 {
        median(self.alone.iter().copied())
    }

    fn together(&self) -> f64 {
        median(self.together.iter().copied())
    }
}

impl Synthetic {
    /// How many times as much a record costs if all CPUs write at once.
    pub(crate) fn contention(&self) -> f64 {
        self.own.together() / self.own.alone()
    }

    /// Nanoseconds a record on one CPU and on all at once, by where it goes.
    pub(crate) fn costs(&self) -> [(&'static str, [f64; 2]); 2] {
        let both = |costs: &Costs| [costs.alone(), costs.together()];
        [
            ("the ring of the CPU", both(&self.own)),
            ("a ring buffer of all CPUs", both(&self.shared)),
        ]
    }

    pub(crate) fn cpus(&self) -> usize {
        self.cpus
    }

    /// At the goal's rate, and at a higher one.
    pub(crate) fn taken(&self) -> &[Taken] {
        &self.taken
    }
}
