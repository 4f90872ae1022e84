//! `cargo xtask vm`: boots other kernels (Debian's, in QEMU) and runs the kernel tests on each.

mod apt;
mod arch;
mod archive;
mod emulator;
mod kernels;
mod machine;
mod programs;
mod report;
mod userland;

use std::{
    env,
    fs::{self, File},
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Mutex,
    thread,
};

use anyhow::Context as _;
use xshell::Shell;

use self::{
    apt::{Apt, KEYRING},
    arch::Arch,
    archive::empty_folder,
    emulator::Emulator,
    kernels::Wanted,
    machine::Machine,
    programs::Programs,
};
use crate::{
    ebpf, packages,
    summary::Summary,
    toolchain,
    workspace::{Workspace, find_program, say},
};

/// The supported kernels that are tested.
const MATRIX: [&str; 6] = ["5.10", "6.1", "6.12", "6.18", "newest", "6.12:arm64"];

/// The directory of everything that is cached between runs.
const FOLDER: &str = "target/vm";

/// Two CPUs, so that per-CPU values have more than one.
const CPUS: u32 = 2;

/// Variables for the tests: the factor by which this machine is slower, and the permission to
/// change settings of the whole machine.
const VARIABLES: [(&str, &str); 2] =
    [("SYNFIN_TEST_SLOWNESS", "10"), ("SYNFIN_TEST_OWN_MACHINE", "1")];

/// The tests that a run without arguments leaves out: they test user space, which is the same on every
/// kernel, and each start of synfin takes seconds on an emulated CPU.
const OF_USER_SPACE: [&str; 14] = [
    "errors::",
    "findings::",
    "flight::",
    "log::",
    "otlp::",
    "prometheus::",
    "readers::",
    "replay::",
    "screen::",
    "scripting::",
    "serve::",
    "situations::",
    "soak::",
    "faults::at_full_rate_clients_that_never_read_metrics_delay_nothing",
];

/// The kernels and tests of a normal test run: the tests with the most coverage at the ends of the matrix,
/// and one that uses every required program on the other kernels, whose verifiers differ.
const BRIEF: [(&[&str], &[&str]); 2] = [
    (&["5.10", "newest"], &["accuracy::", "statistics::optional_hooks"]),
    (&["6.1", "6.12", "6.18"], &["mix::"]),
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build the eBPF programs too, instead of using the committed objects
    #[arg(long)]
    fresh_ebpf: bool,
    /// Number of CPUs of each machine, which take turns on one of this host
    #[arg(long, value_name = "N", default_value_t = CPUS, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Kernels to boot: a series (`6.12`), the full name of a Debian kernel, or `newest`; with
    /// `:arm64` after it, of another architecture
    #[arg(value_name = "KERNEL", default_values = MATRIX)]
    kernels: Vec<Wanted>,
    /// Arguments for the kernel tests, as after `cargo test --` [default: all but those of user space]
    #[arg(last = true)]
    args: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<ExitCode> {
    let Options { kernels, args, cpus, .. } = options;
    let args = match &args[..] {
        [] => strings(&OF_USER_SPACE.map(|test| ["--skip", test]).concat()),
        given => given.to_vec(),
    };
    provide_tools(workspace, &archs(kernels))?;
    let objects = options.fresh_ebpf.then(|| ebpf::build(workspace)).transpose()?;
    let total = run_all(workspace, kernels, &args, *cpus, objects.as_deref())?;
    // A run in which every kernel was skipped has tested nothing.
    let is_good = total.failed == 0 && total.passed > 0;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A part of the tests on each kernel, as part of the test run.
pub(crate) fn brief(workspace: &Workspace) -> anyhow::Result<Summary> {
    let kernels = parse(&BRIEF.map(|(kernels, _)| kernels).concat())?;
    if let Err(error) = provide_tools(workspace, &archs(&kernels)) {
        say(format!("SKIPPED: synfin was NOT tested on other kernels.\n{error:#}"));
        return Ok(Summary { skipped: kernels.len() as u64, ..Summary::default() });
    }
    BRIEF.into_iter().try_fold(Summary::default(), |total, (kernels, args)| {
        Ok(total + run_all(workspace, &parse(kernels)?, &strings(args), CPUS, None)?)
    })
}

fn parse(kernels: &[&str]) -> anyhow::Result<Vec<Wanted>> {
    kernels.iter().map(|name| name.parse().map_err(anyhow::Error::msg)).collect()
}

fn strings(args: &[&str]) -> Vec<String> {
    args.iter().map(|&arg| arg.to_owned()).collect()
}

fn archs(kernels: &[Wanted]) -> Vec<Arch> {
    let mut archs: Vec<_> = kernels.iter().map(|wanted| wanted.arch).collect();
    archs.sort_unstable();
    archs.dedup();
    archs
}

/// Installs missing tools.
fn provide_tools(workspace: &Workspace, archs: &[Arch]) -> anyhow::Result<()> {
    for program in ["apt-get", "apt-cache", "dpkg-deb"] {
        find_program(program).with_context(|| {
            format!("{program} is missing, which downloads kernels as Debian packages")
        })?;
    }
    let programs = [("cpio", "cpio"), ("depmod", "kmod")].into_iter();
    let missing = programs.filter(|(program, _)| find_program(program).is_none());
    let mut missing: Vec<_> = missing.map(|(_, package)| package).collect();
    if !Path::new(KEYRING).is_file() {
        missing.push("debian-archive-keyring");
    }
    packages::install(&workspace.sh, &missing, "virtual machines")?;
    let mut targets = archs.iter().filter_map(|arch| arch.foreign_target());
    targets.try_for_each(|target| toolchain::provide_target(workspace, target))
}

/// Runs the tests on all of these kernels, even if one fails, and prints a table.
fn run_all(
    workspace: &Workspace,
    wanted: &[Wanted],
    args: &[String],
    cpus: u32,
    objects: Option<&Path>,
) -> anyhow::Result<Summary> {
    let folder = workspace.root.join(FOLDER);
    fs::create_dir_all(&folder)?;
    // Two runs would write the same files, so the second one waits here.
    let lock = File::create(folder.join("lock"))?;
    lock.lock()?;

    let mut machines = Vec::new();
    for arch in archs(wanted) {
        let programs = programs::build(workspace, arch, objects)?;
        let wanted = wanted.iter().filter(|wanted| wanted.arch == arch).collect::<Vec<_>>();
        let folder = folder.join(arch.name());
        match prepare(&workspace.sh, arch, &wanted, &folder, &programs, args, cpus) {
            Ok(prepared) => machines.extend(prepared),
            Err(error) => {
                let why = format!("{error:#}");
                let skipped = |wanted: &&Wanted| (wanted.to_string(), Err(why.clone()));
                machines.extend(wanted.iter().map(skipped));
            }
        }
    }
    // `newest` may be the same as another.
    machines.sort_by(|(a, _), (b, _)| a.cmp(b));
    machines.dedup_by(|(a, _), (b, _)| a == b);
    Ok(run_side_by_side(machines))
}

/// A kernel's name, and its machine or the reason why there is none.
type Prepared = (String, Result<Machine, String>);

/// Downloads and builds the files for machines of one architecture.
fn prepare(
    sh: &Shell,
    arch: Arch,
    wanted: &[&Wanted],
    folder: &Path,
    programs: &Programs,
    args: &[String],
    cpus: u32,
) -> anyhow::Result<Vec<Prepared>> {
    fs::create_dir_all(folder)?;
    let programs = archive_programs(sh, folder, programs, args)?;
    let emulator = Emulator::provide(sh, arch, folder)?;
    let apt = Apt::open(sh, arch, folder.join("apt"))?;
    let userland = userland::provide(sh, &apt, folder)?;
    let names = apt.names()?;
    let prepare = |wanted: &&Wanted| match kernels::provide(sh, &apt, &names, wanted, folder) {
        Ok(kernel) => {
            let archives = [userland.clone(), kernel.modules.clone(), programs.clone()];
            let folder = folder.join("runs").join(&kernel.name);
            let emulator = emulator.clone();
            (kernel.name.clone(), Ok(Machine { kernel, emulator, cpus, archives, folder }))
        }
        Err(error) => (wanted.to_string(), Err(format!("{error:#}"))),
    };
    Ok(wanted.iter().map(prepare).collect())
}

/// Archives our programs at the paths where they were built, which the tests use, and the init
/// with its commands.
fn archive_programs(
    sh: &Shell,
    folder: &Path,
    Programs { synfin, tests }: &Programs,
    args: &[String],
) -> anyhow::Result<PathBuf> {
    let root = folder.join("programs");
    empty_folder(&root)?;
    for program in [synfin, tests] {
        archive::copy(&root, program, program)?;
    }
    let sources = crate::workspace::root().join("tracer");
    fs::create_dir_all(root.join(sources.strip_prefix("/")?))?;
    let init = root.join("init");
    fs::write(&init, include_str!("init.sh"))?;
    xshell::cmd!(sh, "chmod +x {init}").quiet().run()?;
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let path = |path: &Path| quoted(&path.display().to_string());
    let mut task = format!("SYNFIN={}\nTESTS={}\n", path(synfin), path(tests));
    task += &format!("DIRECTORY={}\n", path(&sources));
    let args: Vec<_> = args.iter().map(|arg| quoted(arg)).collect();
    task += &format!("ARGS=({})\n", args.join(" "));
    let backtrace = env::var("RUST_BACKTRACE").ok();
    let backtrace = backtrace.iter().map(|value| ("RUST_BACKTRACE", &**value));
    for (name, value) in VARIABLES.into_iter().chain(backtrace) {
        task += &format!("export {name}={}\n", quoted(value));
    }
    fs::write(root.join("task"), task)?;
    let archive = folder.join("programs.cpio");
    archive::write(sh, &root, &archive)?;
    Ok(archive)
}

/// Runs as many machines at a time as this one has CPUs, because each emulated CPU keeps one busy;
/// prints the result of each, and returns the sum.
fn run_side_by_side(machines: Vec<Prepared>) -> Summary {
    let width = machines.iter().map(|(kernel, _)| kernel.len()).max().unwrap_or(0);
    let queue = Mutex::new(machines.into_iter());
    let next = || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    let mut lines = Vec::new();
    let mut total = Summary::default();
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let work = || {
            let run = |(kernel, machine): Prepared| (kernel, machine.map(|machine| machine.run()));
            std::iter::from_fn(next).map(run).collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let done = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            for (kernel, run) in done {
                let (summary, line) = result(&kernel, run, width);
                lines.push(line);
                total = total + summary;
            }
        }
    });
    lines.sort();
    print!("{}", lines.concat());
    total
}

/// The result for a kernel, in lines to print.
fn result(
    kernel: &str,
    run: Result<anyhow::Result<report::Report>, String>,
    width: usize,
) -> (Summary, String) {
    let failed = Summary { failed: 1, ..Summary::default() };
    match run {
        Err(why) => {
            let skipped = Summary { skipped: 1, ..Summary::default() };
            (skipped, format!("{kernel:width$}  SKIPPED, NOT tried: {why}\n"))
        }
        Ok(Err(error)) => (failed, format!("{kernel:width$}  FAILED: {error:#}\n")),
        Ok(Ok(report)) => {
            let Summary { passed, failed, skipped } = report.summary;
            let mut lines =
                format!("{kernel:width$}  {passed} passed, {failed} failed, {skipped} skipped\n");
            for skipped in &report.skipped {
                lines += &format!("  skipped {skipped}\n");
            }
            for wrong in &report.wrong {
                lines += &format!("{wrong}\n");
            }
            (report.summary, lines)
        }
    }
}
