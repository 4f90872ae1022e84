//! What the kernel side costs per transition, beside the least that such a program can do: both
//! run on the same transitions in the same run, and the kernel itself measures them.
//!
//! Ends with status 1 if synfin's main hook takes more than [`BUDGET`] times the bare program's.

use std::{
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use aya::{
    Btf, Ebpf, include_bytes_aligned,
    maps::{MapData, RingBuf},
    programs::BtfTracePoint,
    sys::{Stats, enable_stats},
};
use synfin::kernel::{Kernel, Setup};

/// The bare program takes the clock and submits 48 bytes, on the same tracepoint.
static FLOOR: &[u8] = include_bytes_aligned!(concat!(env!("SYNFIN_EBPF_DIR"), "/floor.bpf.o"));

/// How many times the bare program's time the main hook may take.
const BUDGET: f64 = 1.5;

const ROUNDS: usize = 5;
const CONNECTIONS: usize = 20_000;

fn main() -> ExitCode {
    // `cargo bench` and `cargo test` call every bench; tests have nothing to measure.
    if std::env::args().any(|arg| arg == "--test") {
        return ExitCode::SUCCESS;
    }
    match measure() {
        Ok(ratio) if ratio <= BUDGET => ExitCode::SUCCESS,
        Ok(ratio) => {
            eprintln!("over budget: {ratio:.2} times the bare program, {BUDGET} are allowed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("cannot measure: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Nanoseconds and runs of one program.
#[derive(Clone, Copy, Default)]
struct Spent {
    ns: u64,
    runs: u64,
}

impl Spent {
    fn since(self, earlier: Self) -> Self {
        Self { ns: self.ns - earlier.ns, runs: self.runs - earlier.runs }
    }

    fn each(self) -> f64 {
        self.ns as f64 / self.runs as f64
    }
}

/// The median over the rounds of synfin's time per transition in units of the bare program's.
fn measure() -> Result<f64> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).context("is this root?")?;
    std::process::Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .context("cannot run ip")?;

    let _statistics =
        enable_stats(Stats::RunTime).context("cannot turn on the kernel's statistics")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _runtime = runtime.enter();
    let (mut kernel, _walker) = Kernel::attach(&Setup::default())?;
    let mut floor = Floor::attach()?;
    println!("connections/s  ns per transition: synfin  bare  ratio");
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let before = (main_hook(&kernel)?, floor.spent()?);
        let begun = Instant::now();
        with_load(|| {
            while kernel.drain(1 << 20).is_some() {}
            floor.drain();
            thread::sleep(Duration::from_millis(5));
        })?;
        let rate = CONNECTIONS as f64 / begun.elapsed().as_secs_f64();
        let synfin = main_hook(&kernel)?.since(before.0);
        let bare = floor.spent()?.since(before.1);
        let ratio = synfin.each() / bare.each();
        println!("{rate:13.0}  {:24.0}  {:5.0}  {ratio:5.2}", synfin.each(), bare.each());
        ratios.push(ratio);
    }
    let lost: u64 = kernel.counters()?.lost.iter().sum();
    anyhow::ensure!(lost == 0, "{lost} records were lost: what is measured is not what it does");
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ROUNDS / 2];
    println!("median: {median:.2} times the bare program; the budget is {BUDGET}");
    Ok(median)
}

fn main_hook(kernel: &Kernel) -> Result<Spent> {
    let costs = kernel.costs();
    let cost = costs.iter().find(|cost| cost.hook == "inet_sock_set_state");
    let cost = cost.context("the kernel does not tell what the main hook costs")?;
    Ok(Spent { ns: cost.run_ns, runs: cost.runs })
}

/// Makes short connections on loopback, and calls `meanwhile` over and over until they are over.
fn with_load(mut meanwhile: impl FnMut()) -> Result<()> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let result = short_connections();
            over.store(true, Ordering::Release);
            result
        });
        while !over.load(Ordering::Acquire) {
            meanwhile();
        }
        load.join().expect("the load does not panic")
    })
}

/// Half of them closed by the server first. Many addresses, so that no range of ports runs out.
fn short_connections() -> Result<()> {
    let listener = TcpListener::bind("0.0.0.0:7000")?;
    thread::scope(|scope| {
        let server = scope.spawn(move || -> Result<()> {
            for (index, stream) in listener.incoming().take(CONNECTIONS).enumerate() {
                let mut stream = stream?;
                if index % 2 == 0 {
                    std::io::Read::read(&mut stream, &mut [0])?;
                }
            }
            Ok(())
        });
        for index in 0..CONNECTIONS {
            let address = Ipv4Addr::new(127, 0, 1, (index % 250) as u8 + 1);
            let mut stream = TcpStream::connect(SocketAddrV4::new(address, 7000))?;
            if index % 2 == 1 {
                std::io::Read::read(&mut stream, &mut [0])?;
            }
        }
        server.join().expect("the server does not panic")
    })
}

/// The bare program.
struct Floor {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
}

impl Floor {
    fn attach() -> Result<Self> {
        let mut ebpf = Ebpf::load(FLOOR)?;
        let ring = ebpf.take_map("EVENTS").context("the object has no map EVENTS")?.try_into()?;
        let program: &mut BtfTracePoint =
            ebpf.program_mut("floor").context("the object has no program floor")?.try_into()?;
        program.load("inet_sock_set_state", &Btf::from_sys_fs()?)?;
        program.attach()?;
        Ok(Self { ebpf, ring })
    }

    fn drain(&mut self) {
        while self.ring.next().is_some() {}
    }

    fn spent(&self) -> Result<Spent> {
        let info = self.ebpf.program("floor").context("the object has no program floor")?.info()?;
        Ok(Spent { ns: info.run_time().as_nanos() as u64, runs: info.run_count() })
    }
}
