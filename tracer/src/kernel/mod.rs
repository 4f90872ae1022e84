//! The kernel side as seen by the rest of the program. Only this module imports aya.
//!
//! [`Kernel::attach`] loads and attaches all programs. After that, records are
//! [drained](Kernel::drain) as bytes and [counted](Kernel::counters), and the [`iterators`] thread
//! scans sockets.

use crate::{
    host::{namespaces, privileges},
    kernel::btf::offsets,
};
pub mod btf;
mod counters;
mod cpu_rings;
mod hooks;
pub mod iterators;
mod kfuncs;
mod log;
mod mapping;
mod merge;
mod port_counts;
mod positions;
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
pub use cpu_rings::RingLayout;
pub use hooks::{MAIN_HOOK, MAIN_HOOK_BY_EVENT, Need, PREEMPTED, RESET_SENT, Refused, hooks};
pub use positions::Mark;
use refusal::Refusal;
pub use ring::{Batch, Ring, RingUse};
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
    },
};

/// The kernel side, built from `tracer-ebpf` by `cargo xtask ebpf`.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("SYNFIN_EBPF_DIR"), "/synfin.bpf.o"));

/// Capacity for open connections that a filter excluded when they began. User space filters the
/// others.
const REMEMBERED_SOCKETS: u32 = 1 << 16;

/// Options of [`Kernel::attach`].
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Size of the ring buffer of each CPU, or of the one that all share, in bytes: a power of two, at
    /// least one page. `None`: the default.
    pub ring_bytes: Option<u32>,
    /// The kernel side does not record what this filter certainly excludes; the tracker decides about
    /// the rest.
    pub filter: Filter,
    /// Do not attach programs to kernel functions (fentry, fexit), even where the kernel allows it.
    pub tracepoints_only: bool,
    /// Where accept() cannot be hooked itself, attach to the accept system calls.
    pub accept_wait: bool,
    /// Attach the main hook to the tracepoint's event even if this kernel cannot preempt programs
    /// on tracepoints.
    pub by_event: bool,
    /// Verbosity of the kernel side's log; 0 means warnings only.
    pub verbose: u8,
    /// A file with the running kernel's type information, to be used instead of the kernel's own.
    pub btf: Option<PathBuf>,
}

/// The attached hooks and the maps that they write to.
pub struct Kernel {
    hooks: Vec<hooks::Attached>,
    refused: Vec<Refused>,
    ring: ring::Ring,
    log: log::Log,
    counters: counters::Counters,
    port_counts: port_counts::PortCounts,
    /// As of when the hooks were detached, because their programs hold some of the counts.
    of_detached: Counters,
    /// Whether the kernel also reports resets without a socket.
    reports_socketless_resets: bool,
    caveat: Option<String>,
}

impl Kernel {
    /// Loads and attaches every hook, and starts the thread that scans sockets.
    ///
    /// # Errors
    ///
    /// If this host does not allow tracing, the error is a
    /// [`Failure`](crate::message::failure::Failure) that explains why.
    pub fn attach(setup: &Setup) -> Result<(Self, iterators::SocketScanner)> {
        Self::try_attach(setup).map_err(|refusal| refusal::explain(refusal, &Facts::gather()))
    }

    fn try_attach(setup: &Setup) -> Result<(Self, iterators::SocketScanner), Refusal> {
        let &Setup { ref filter, by_event, verbose, ref btf, .. } = setup;
        raise_memlock();
        // The loader parses all types itself, which takes as long as everything else here, so it
        // runs in parallel.
        let (loader, resolved) = thread::scope(|scope| {
            let loader = scope.spawn(EbpfLoader::new);
            let resolved = Types::find(btf.as_deref())
                .and_then(|types| Ok((offsets::resolve(types.btf())?, looked_for(&types)?, types)));
            (loader.join(), resolved)
        });
        let mut loader = loader.unwrap_or_default();
        let (mut config, btf, types) = resolved?;
        config.jiffy_us = clock::jiffy_us()?;
        let layout = RingLayout::new(&config, cpu_rings::cpus(), setup.ring_bytes);
        let ring_bytes = layout.bytes();
        layout.configure(&mut config);
        if !namespaces::have_cookies() {
            config.offsets.net_cookie = ABSENT;
        }
        let mut filter = filter.for_kernel();
        remove_unsupported(&mut filter, &config);
        let remembered = if filter.remembers_excluded == 0 { 1 } else { REMEMBERED_SOCKETS };

        let by_event = by_event || privileges::preempts_hooks();
        let cast = by_event.then(|| offsets::event_cast(types.btf())).flatten();
        let file_table = offsets::file_table(types.btf());
        let linked = cast.map(|number| kfuncs::link(OBJECT, number)).transpose()?;
        layout.size_maps(&mut loader);
        let mut ebpf = loader
            .override_global("CONFIG", config.as_bytes(), true)
            .override_global("FILTER", filter.as_bytes(), true)
            .override_global("FILE_TABLE", file_table.as_bytes(), true)
            .override_global(log::LEVEL, &log::level(verbose), true)
            .map_max_entries("FILTERED_SOCKETS", remembered)
            .load(linked.as_deref().unwrap_or(OBJECT))
            .map_err(|error| Refusal::Object { ring_bytes, error })?;
        let ring = ring::Ring::new(&mut ebpf, layout)?;
        let log = log::Log::open(&mut ebpf)?;
        let choice = hooks::Choice {
            tracepoints_only: setup.tracepoints_only,
            by_event,
            skips_programs: config.can_nest == 0,
            accept_syscalls: setup.accept_wait.then_some(hooks::AcceptSyscalls {
                are_readable: offsets::reads_files(&config) && file_table.is_known(),
            }),
        };
        let (hooks, refused) = hooks::attach(&mut ebpf, &btf, choice)?;
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
            of_detached: Counters::default(),
            reports_socketless_resets: config.has_reset_reason != 0,
            caveat: types.caveat(),
        };
        Ok((kernel, scanner))
    }

    /// A warning about an unverified assumption that would make values wrong, or `None`.
    pub fn caveat(&self) -> Option<&str> {
        self.caveat.as_deref()
    }

    /// Names of the attached hooks.
    pub fn active_hooks(&self) -> Vec<&'static str> {
        self.hooks.iter().map(|hook| hook.name).collect()
    }

    /// The optional hooks that are attached.
    pub fn coverage(&self) -> Coverage {
        let is_attached = |name: &str| self.hooks.iter().any(|hook| hook.name == name);
        let is_shown = |hook: &OptionalHook| match hook {
            OptionalHook::Resets => self.reports_socketless_resets && is_attached(RESET_SENT),
            other => is_attached(other.name()),
        };
        let shown = OptionalHook::ALL.into_iter().filter(is_shown);
        Coverage::from_names(&shown.map(OptionalHook::name).collect::<Vec<_>>())
    }

    /// Size of the ring buffer of each CPU, or of the one that all share, in bytes.
    pub fn ring_bytes(&self) -> u32 {
        self.ring.bytes()
    }

    /// What has been written to each ring: first to those of the CPUs, if they have any.
    pub fn ring_uses(&self) -> Vec<RingUse> {
        self.ring.uses()
    }

    /// Returns all complete records from now on, even if earlier ones are not complete.
    pub fn give_up_incomplete(&mut self) {
        self.ring.give_up_incomplete();
    }

    /// The hooks that this kernel refused.
    pub fn refused_hooks(&self) -> &[Refused] {
        &self.refused
    }

    /// Waits for the kernel side's wake-up, which it sends only when the ring buffer fills: drain
    /// on a timer as well.
    ///
    /// # Errors
    ///
    /// Polling the ring buffer fails.
    pub async fn filling(&mut self) -> Result<()> {
        self.ring.filling().await
    }

    /// Takes records from the rings in order of time, about `limit` bytes at most. Returns `None` if there
    /// are none yet that all earlier ones precede.
    pub fn drain(&mut self, limit: usize) -> Option<Batch> {
        self.ring.drain(limit)
    }

    /// A mark in the ring buffer behind every record whose time is not later than now. A program
    /// that is running may reserve its record behind the mark, but takes the time of the record
    /// after that.
    ///
    /// The mark is also behind every record of a transition that a scan has seen: the kernel runs
    /// the program on the same CPU before it changes the state of the socket.
    pub fn mark(&self) -> Mark {
        self.ring.mark()
    }

    /// Whether all records before the mark have been drained. If not, a program is still writing
    /// one of them.
    pub fn has_drained(&self, mark: &Mark) -> bool {
        self.ring.has_passed(mark)
    }

    /// The messages that the kernel side has logged since the last call.
    pub fn take_log(&mut self) -> Vec<String> {
        self.log.take()
    }

    /// Reads the kernel side's counters since it was attached.
    ///
    /// # Errors
    ///
    /// A map of counters cannot be read.
    pub fn counters(&self) -> Result<Counters> {
        let mut counters = self.counters.read(&self.hooks)?;
        counters.missed += self.of_detached.missed;
        counters.skipped += self.of_detached.skipped;
        Ok(counters)
    }

    /// The growth of the counters per port since the last call.
    ///
    /// # Errors
    ///
    /// The map of counts cannot be read.
    pub fn new_port_counts(&mut self) -> Result<Vec<PortCount>> {
        self.port_counts.take_new()
    }

    /// The run time of each hook, if the kernel counts it.
    pub fn costs(&self) -> Vec<Cost> {
        self.hooks.iter().filter_map(counters::cost).collect()
    }

    /// Detaches every hook. Nothing more is recorded, except by programs that are running at this
    /// moment: the counters tell whether records of programs that have begun are missing. Recorded
    /// data can still be drained.
    ///
    /// # Errors
    ///
    /// A program cannot be detached.
    pub fn detach(&mut self) -> Result<()> {
        self.of_detached = self.counters()?;
        self.hooks.clear();
        Ok(())
    }
}

/// Describes the kernel's type information, or that in the given file.
///
/// # Errors
///
/// The type information is missing, or belongs to another kernel.
pub fn describe_types(file: Option<&Path>) -> Result<String> {
    raise_memlock();
    let types =
        Types::find(file).map_err(|error| refusal::explain(error.into(), &Facts::gather()))?;
    Ok(types.describe())
}

/// The subset of the kernel's types that aya looks up.
fn looked_for(types: &Types) -> Result<Btf, TypesError> {
    let names: Vec<_> = hooks::kernel_types().chain(iterators::looked_for()).collect();
    let names = names.iter().map(String::as_bytes).collect();
    let few = types.btf().only(&names).map_err(TypesError::malformed)?;
    Btf::parse(&few, Endianness::default()).map_err(TypesError::malformed)
}

/// Removes the parts of the filter that this kernel cannot evaluate. User space evaluates them.
fn remove_unsupported(filter: &mut abi::Filter, config: &Config) {
    let offsets = &config.offsets;
    let fields = [offsets.sk_cgroup, offsets.cgroup_ancestors, offsets.cgroup_level];
    if fields.contains(&ABSENT) {
        filter.cgroup = 0;
    }
}

/// Raises RLIMIT_MEMLOCK, against which maps count before 5.11. A failure is ignored: either the
/// limit is irrelevant, or loading reports it.
fn raise_memlock() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
}
