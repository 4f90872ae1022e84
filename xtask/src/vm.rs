//! `cargo xtask vm`: boots other kernels (Debian's, in QEMU) and runs the kernel tests on each.

mod apt;
mod arch;
mod children;
pub(crate) mod guest;
mod initramfs;
mod kernels;
mod machine;
mod page;
mod programs;
mod results;
mod table;
mod tools;
mod trial;
mod userland;

use std::{
    collections::HashSet,
    env,
    fs::{self, File},
    num::NonZero,
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::SystemTime,
};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use self::{
    apt::Apt,
    arch::Arch,
    guest::Task,
    initramfs::Initramfs,
    kernels::{Shelf, Wanted},
    machine::Machine,
    programs::Programs,
    table::Table,
    trial::{Outcome, Trial},
};
use crate::{
    ebpf,
    test::Summary,
    workspace::{Workspace, say},
};

/// Every kernel that synfin is to be right on, at least.
const MATRIX: [&str; 6] = ["5.10", "6.1", "6.12", "6.18", "newest", "6.12:arm64"];

/// What a run of the whole matrix is written up in.
const PAGE: &str = "docs/compatibility.md";

/// All that is kept from one run to the next.
const FOLDER: &str = "target/vm";

/// What the tests are told of machines: how many times as long as on one of silicon things may take,
/// and that settings of the whole machine may be changed.
const VARIABLES: [(&str, &str); 2] =
    [("SYNFIN_TEST_SLOWNESS", "10"), ("SYNFIN_TEST_OWN_MACHINE", "1")];

/// What a machine's tests have of this one's environment.
const PASSED_ON: [&str; 1] = ["RUST_BACKTRACE"];

/// What a test run has time for: the ends of the matrix, and of the tests those that show most.
const BRIEFLY: [&str; 2] = ["5.10", "newest"];
const BRIEFLY_ARGS: [&str; 2] = ["accuracy::", "figures::extras"];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build the kernel side too, in place of the committed objects
    #[arg(long)]
    fresh_ebpf: bool,
    /// Write docs/compatibility.md of what all kernels show, if nothing fails
    #[arg(long, conflicts_with_all = ["kernels", "args"])]
    docs: bool,
    /// Go on with the last run: try only what failed in it, and kernels that were not tried or tried
    /// with another synfin
    #[arg(long, conflicts_with = "args")]
    go_on: bool,
    /// Kernels to boot: a series (`6.12`), a Debian kernel's full name, or `newest`; with `:arm64`
    /// behind it, of another architecture
    #[arg(value_name = "KERNEL", default_values = MATRIX)]
    kernels: Vec<Wanted>,
    /// What the kernel tests are called with, as after `cargo test --`
    #[arg(last = true)]
    args: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<ExitCode> {
    tools::provide(workspace, &archs(&options.kernels))?;
    let objects = options.fresh_ebpf.then(|| ebpf::build(workspace)).transpose()?;
    let Options { kernels, args, go_on, .. } = options;
    let trials = try_all(workspace, kernels, args, objects.as_deref(), *go_on)?;
    // A run that could try nothing has shown nothing.
    let tried = trials.iter().any(|trial| matches!(trial.outcome, Outcome::Tried(_)));
    let total: Summary = trials.iter().map(Trial::summary).sum();
    if !tried || total.failed > 0 {
        return Ok(ExitCode::FAILURE);
    }
    if options.docs {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let day = now.split('T').next().unwrap_or_default();
        fs::write(workspace.root.join(PAGE), page::write(&trials, day)?)?;
        say(format!("wrote {PAGE}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The tests that show most, on the oldest kernel and the newest: part of the test run.
pub(crate) fn briefly(workspace: &Workspace) -> anyhow::Result<Summary> {
    let kernels = BRIEFLY.map(|name| name.parse().map_err(anyhow::Error::msg));
    let kernels = kernels.into_iter().collect::<anyhow::Result<Vec<Wanted>>>()?;
    if let Err(error) = tools::provide(workspace, &archs(&kernels)) {
        say(format!("SKIPPED: synfin was NOT tried on other kernels.\n{error:#}"));
        return Ok(Summary { skipped: kernels.len() as u64, ..Summary::default() });
    }
    let trials = try_all(workspace, &kernels, &BRIEFLY_ARGS.map(str::to_owned), None, false)?;
    Ok(trials.iter().map(Trial::summary).sum())
}

/// What they run on, each once.
fn archs(kernels: &[Wanted]) -> Vec<Arch> {
    let mut archs: Vec<_> = kernels.iter().map(|wanted| wanted.arch).collect();
    archs.sort_unstable();
    archs.dedup();
    archs
}

/// Tries all of these kernels, whatever becomes of the first, and says what came of them. This
/// machine has the [`tools`].
fn try_all(
    workspace: &Workspace,
    wanted: &[Wanted],
    args: &[String],
    objects: Option<&Path>,
    go_on: bool,
) -> anyhow::Result<Vec<Trial>> {
    // All that this command writes is in here and among cargo's files, and a run that was killed
    // leaves only files.
    let folder = workspace.root.join(FOLDER);
    fs::create_dir_all(&folder)?;
    let _alone = wait_until_alone(&folder)?;

    // A part of the tests is nothing to go on with.
    let results = if args.is_empty() { "results.json" } else { "results-of-a-part.json" };
    let results = folder.join(results);
    let known = if go_on { earlier(&results) } else { Vec::new() };
    let mut plans = Vec::new();
    for arch in archs(wanted) {
        let wanted: Vec<_> = wanted.iter().filter(|wanted| wanted.arch == arch).collect();
        let programs = programs::build(workspace, arch, objects)?;
        let folder = folder.join(arch.name());
        fs::create_dir_all(&folder)?;
        let archive = folder.join("programs.cpio");
        archive_programs(&programs)?.write(&archive)?;
        let task = task(workspace, programs, args);
        let synfin = digest(&task.synfin)?;
        let new = plan(arch, &wanted, &folder, &archive, &task).unwrap_or_else(|error| {
            let why = format!("{error:#}");
            wanted.iter().map(|wanted| Plan::not(wanted, why.clone())).collect()
        });
        plans.extend(new.into_iter().map(|plan| (plan, synfin.clone())));
    }
    // `newest` may be the same as another.
    let mut names = HashSet::new();
    plans.retain(|(plan, _)| names.insert(plan.kernel.clone()));
    let trials = side_by_side(&plans, |(plan, synfin)| {
        let is_same = |trial: &&Trial| (&trial.kernel, &trial.synfin) == (&plan.kernel, synfin);
        let earlier = known.iter().find(is_same).and_then(Trial::whole);
        let outcome = match &plan.machine {
            Ok((machine, task)) => Outcome::Tried(match earlier {
                Some(tried) => trial::try_again(machine, task, tried.clone()),
                None => trial::carry_out(machine, task),
            }),
            Err(why) => Outcome::Skipped(why.clone()),
        };
        Trial { kernel: plan.kernel.clone(), synfin: synfin.clone(), outcome }
    });
    print!("{}", Table(&trials));
    fs::write(&results, serde_json::to_vec_pretty(&trials)?)?;
    say(format!("all results are in {}", results.display()));
    Ok(trials)
}

/// What the last run found; nothing if it cannot be read.
fn earlier(results: &Path) -> Vec<Trial> {
    let trials = fs::read(results).ok().and_then(|json| serde_json::from_slice(&json).ok());
    trials.unwrap_or_default()
}

/// Tells programs apart.
fn digest(program: &Path) -> anyhow::Result<String> {
    let program =
        fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    Ok(Sha256::digest(program).iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// What is to be done for one of the kernels that are wanted.
struct Plan {
    /// Its name, as far as it is known.
    kernel: String,
    /// What is to be booted and what it has to do, or why it cannot be had.
    machine: Result<(Machine, Task), String>,
}

impl Plan {
    fn not(wanted: &Wanted, why: String) -> Self {
        Self { kernel: wanted.to_string(), machine: Err(why) }
    }
}

/// Gets what machines of one architecture need.
fn plan(
    arch: Arch,
    wanted: &[&Wanted],
    folder: &Path,
    programs: &Path,
    task: &Task,
) -> anyhow::Result<Vec<Plan>> {
    let apt = Apt::open(arch, folder.join("apt"))?;
    let userland = userland::provide(arch, &apt, folder)?;
    let mut shelf = Shelf::open(arch, &apt, folder)?;
    let plan = |wanted: &&Wanted| match shelf.provide(wanted) {
        Ok(kernel) => {
            let archives = [userland.clone(), kernel.modules(), programs.to_path_buf()];
            let folder = folder.join("runs").join(&kernel.name);
            let name = kernel.name.clone();
            Plan { kernel: name, machine: Ok((Machine { kernel, archives, folder }, task.clone())) }
        }
        Err(error) => Plan::not(wanted, format!("{error:#}")),
    };
    Ok(wanted.iter().map(plan).collect())
}

/// What machines have to do.
fn task(workspace: &Workspace, programs: Programs, args: &[String]) -> Task {
    let passed_on = PASSED_ON.iter().filter_map(|&name| Some((name, env::var(name).ok()?)));
    let variables = passed_on.chain(VARIABLES.map(|(name, value)| (name, value.to_owned())));
    Task {
        synfin: programs.synfin,
        tests: programs.tests,
        folder: workspace.root.join("tracer"),
        args: args.to_vec(),
        variables: variables.map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

/// Our programs at the paths that they were built at, which the tests know; and xtask, which is
/// the machines' init: see [`guest`].
fn archive_programs(programs: &Programs) -> anyhow::Result<Initramfs> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut initramfs = Initramfs::default();
    for folder in guest::FOLDERS {
        initramfs.folder(folder);
    }
    initramfs.console();
    initramfs.program(guest::INIT, &read(&programs.xtask)?);
    for program in [&programs.synfin, &programs.tests] {
        let path = program.to_str().context("a path that is no text")?;
        initramfs.program(path, &read(program)?);
    }
    Ok(initramfs)
}

/// Does something with each, as many at a time as this machine has processors: an emulated machine
/// keeps one busy. The results are in the order of the items.
fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        while let Some((number, item)) =
            items.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed))
        {
            done.push((number, work(item)));
        }
        done
    };
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let mut done: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(take)).collect();
        let done = workers.into_iter().flat_map(|worker| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        done.collect()
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Two runs at a time would write the same files; the second waits here.
fn wait_until_alone(folder: &Path) -> anyhow::Result<File> {
    let lock = File::create(folder.join("lock"))?;
    if lock.try_lock().is_err() {
        say("waiting for another `cargo xtask vm` to end");
        lock.lock()?;
    }
    Ok(lock)
}
