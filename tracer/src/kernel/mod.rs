//! The kernel side, as the rest of the program sees it: the only place that imports aya.
//!
//! [`Kernel::attach`] loads and attaches everything; from then on records are [drained](Kernel::drain)
//! as bytes, [counted](Kernel::counters), and sockets are scanned by the [`iterators`] thread.

use crate::{host::privileges, kernel::btf::offsets};
pub mod btf;
mod counters;
mod hooks;
pub mod iterators;
mod kfuncs;
mod log;
mod port_counts;
mod refusal;
mod ring;

use std::{
    path::{Path, PathBuf},
    thread,
};

use anyhow::Result;
use aya::{Btf, EbpfLoader, Endianness, include_bytes_aligned};
pub use btf::source::BTF_FILE;
use btf::source::{Types, TypesError};
pub use counters::Cost;
pub use hooks::{MAIN_HOOK, MAIN_HOOK_BY_EVENT, Need, PREEMPTED, RESET_SENT, Refused, hooks};
use refusal::Refusal;
pub use ring::Batch;
use synfin_common::{
    config::{ABSENT, Config},
    filter as abi,
};
use zerocopy::IntoBytes;

use crate::{
    host::{clock, privileges::Facts},
    tcp::coverage::{Coverage, OptionalHook},
    trace::{
        counters::{Counters, PortCount},
        filter::Filter,
        ring_size::DEFAULT_RING_BYTES,
    },
};

/// The kernel side, built from `tracer-ebpf` by `cargo xtask ebpf`.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("SYNFIN_EBPF_DIR"), "/synfin.bpf.o"));

/// Connections that a filter excluded at their birth and that live: more are left to the user side.
const REMEMBERED_SOCKETS: u32 = 1 << 16;

/// How to attach.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Size of the ring buffer: a power of two and at least a page.
    pub ring_bytes: u32,
    /// Connections that the kernel side need not record. It excludes those that it can decide
    /// about; the tracker decides about the others.
    pub filter: Filter,
    /// Attach no programs to functions of the kernel (fentry, fexit), even where it allows them.
    pub tracepoints_only: bool,
    /// Attach the main hook as on kernels that preempt programs on tracepoints, whether this one does
    /// or not.
    pub by_event: bool,
    /// How much the kernel side says: 0 is warnings.
    pub verbose: u8,
    /// A file with the running kernel's type information, instead of what the kernel shows.
    pub btf: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            ring_bytes: DEFAULT_RING_BYTES,
            filter: Filter::default(),
            tracepoints_only: false,
            by_event: false,
            verbose: 0,
            btf: None,
        }
    }
}

/// The attached hooks and what they write to.
pub struct Kernel {
    hooks: Vec<hooks::Attached>,
    refused: Vec<Refused>,
    ring: ring::Ring,
    log: log::Log,
    counters: counters::Counters,
    port_counts: port_counts::PortCounts,
    missed_by_detached: u64,
    /// It tells of resets with no connection behind them as well.
    reports_socketless_resets: bool,
    caveat: Option<String>,
}

impl Kernel {
    /// Loads and attaches every hook, and starts the thread that scans sockets.
    ///
    /// Where this host does not allow that, the error is a [`Failure`](crate::message::failure::Failure)
    /// that says why.
    pub fn attach(setup: &Setup) -> Result<(Self, iterators::SocketScanner)> {
        Self::try_attach(setup).map_err(|refusal| refusal::explain(refusal, &Facts::gather()))
    }

    fn try_attach(setup: &Setup) -> Result<(Self, iterators::SocketScanner), Refusal> {
        let &Setup { ring_bytes, ref filter, tracepoints_only, by_event, verbose, ref btf } = setup;
        raise_memlock();
        // It reads all types itself, which takes as long as everything that is done here.
        let (loader, resolved) = thread::scope(|scope| {
            let loader = scope.spawn(EbpfLoader::new);
            let resolved = Types::find(btf.as_deref())
                .and_then(|types| Ok((offsets::resolve(types.btf())?, looked_for(&types)?, types)));
            (loader.join(), resolved)
        });
        let mut loader = loader.unwrap_or_default();
        let (mut config, btf, types) = resolved?;
        config.jiffy_us = clock::jiffy_us()?;
        config.wake_bytes = ring_bytes / 8;
        let filter = supported(filter.for_kernel(), &config);
        let remembered = if filter.remembers_excluded == 0 { 1 } else { REMEMBERED_SOCKETS };

        let by_event = by_event || privileges::preempts_hooks();
        let cast = by_event.then(|| offsets::event_cast(types.btf())).flatten();
        let linked = cast.map(|number| kfuncs::link(OBJECT, number)).transpose()?;
        let mut ebpf = loader
            .override_global("CONFIG", config.as_bytes(), true)
            .override_global("FILTER", filter.as_bytes(), true)
            .override_global(log::LEVEL, &log::level(verbose), true)
            .map_max_entries("EVENTS", ring_bytes)
            .map_max_entries("FILTERED_SOCKETS", remembered)
            .load(linked.as_deref().unwrap_or(OBJECT))
            .map_err(|error| Refusal::Object { ring_bytes, error })?;
        let ring = ring::Ring::new(&mut ebpf)?;
        let log = log::Log::open(&mut ebpf)?;
        let (hooks, refused) = hooks::attach(&mut ebpf, &btf, tracepoints_only, by_event)?;
        let counters = counters::Counters::new(&mut ebpf)?;
        let port_counts = port_counts::PortCounts::new(&mut ebpf)?;
        let scanner = iterators::SocketScanner::start(ebpf, &btf)?;
        let kernel = Self {
            hooks,
            refused,
            ring,
            log,
            counters,
            port_counts,
            missed_by_detached: 0,
            reports_socketless_resets: config.has_reset_reason != 0,
            caveat: types.caveat(),
        };
        Ok((kernel, scanner))
    }

    /// What could not be made sure of, and would make figures wrong if it is not so.
    pub fn caveat(&self) -> Option<&str> {
        self.caveat.as_deref()
    }

    /// The names of the hooks that run.
    pub fn active_hooks(&self) -> Vec<&'static str> {
        self.hooks.iter().map(|hook| hook.name).collect()
    }

    /// The optional hooks that run and report what they are for.
    pub fn coverage(&self) -> Coverage {
        let is_attached = |name: &str| self.hooks.iter().any(|hook| hook.name == name);
        let is_shown = |hook: &OptionalHook| match hook {
            OptionalHook::Resets => self.reports_socketless_resets && is_attached(RESET_SENT),
            other => is_attached(other.name()),
        };
        let shown = OptionalHook::ALL.into_iter().filter(is_shown);
        Coverage::of(&shown.map(OptionalHook::name).collect::<Vec<_>>())
    }

    /// The hooks that this kernel refused.
    pub fn refused_hooks(&self) -> &[Refused] {
        &self.refused
    }

    /// Waits until the kernel side says that the ring buffer fills, which it does rarely: drain
    /// on a timer as well.
    pub async fn filling(&mut self) -> Result<()> {
        self.ring.filling().await
    }

    /// Takes what the ring buffer holds, at most about `limit` bytes of it. `None` if it is empty.
    pub fn drain(&mut self, limit: usize) -> Option<Batch> {
        self.ring.drain(limit)
    }

    /// The messages that the kernel side has logged since the last call.
    pub fn take_log(&mut self) -> Vec<String> {
        self.log.take()
    }

    /// What the kernel side has counted since it was attached.
    pub fn counters(&self) -> Result<Counters> {
        let mut counters = self.counters.read(&self.hooks)?;
        counters.missed += self.missed_by_detached;
        Ok(counters)
    }

    /// What was counted per port since this was last asked.
    pub fn new_port_counts(&mut self) -> Result<Vec<PortCount>> {
        self.port_counts.take_new()
    }

    /// What each hook has cost, as far as the kernel counts it.
    pub fn costs(&self) -> Vec<Cost> {
        self.hooks.iter().filter_map(counters::cost).collect()
    }

    /// Detaches every hook: but for programs that run at this moment, nothing more is recorded.
    /// What was recorded can still be drained.
    pub fn detach(&mut self) -> Result<()> {
        // Misses are counted in the programs, which end with their hooks.
        self.missed_by_detached = self.counters()?.missed;
        self.hooks.clear();
        Ok(())
    }
}

/// What is known of the kernel's type information, or of the file that is to have it.
///
/// If it is missing or not this kernel's, the error says why.
pub fn describe_types(file: Option<&Path>) -> Result<String> {
    raise_memlock();
    let types =
        Types::find(file).map_err(|error| refusal::explain(error.into(), &Facts::gather()))?;
    Ok(types.describe())
}

/// Of the kernel's types, those that aya looks for.
fn looked_for(types: &Types) -> Result<Btf, TypesError> {
    let names: Vec<_> = hooks::kernel_types().chain(iterators::looked_for()).collect();
    let names = names.iter().map(String::as_bytes).collect();
    let few = types.btf().only(&names).map_err(TypesError::malformed)?;
    Btf::parse(&few, Endianness::default()).map_err(TypesError::malformed)
}

/// Without what this kernel cannot tell, which the user side then decides.
fn supported(filter: abi::Filter, config: &Config) -> abi::Filter {
    let offsets = &config.offsets;
    let fields = [offsets.sk_cgroup, offsets.cgroup_ancestors, offsets.cgroup_level];
    if fields.contains(&ABSENT) { abi::Filter { cgroup: 0, ..filter } } else { filter }
}

/// Before 5.11 maps count against RLIMIT_MEMLOCK. Where it cannot be raised it is not needed, or
/// loading says so.
fn raise_memlock() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
}
