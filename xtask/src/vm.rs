//! `cargo xtask vm`: boots other kernels (Debian's, in QEMU) and checks on each that synfin loads,
//! attaches and reports a few known connections right.

mod children;
pub(crate) mod guest;
mod initramfs;
mod kernels;
mod machine;
mod tools;
mod traffic;

use std::{
    env, fmt,
    fs::{self, File},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};

use self::{
    initramfs::Initramfs,
    kernels::{Kernel, Shelf, Wanted},
};
use crate::{
    ebpf,
    workspace::{Workspace, say},
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build the kernel side too, in place of the committed objects
    #[arg(long)]
    fresh_ebpf: bool,
    /// Kernels to boot: a series (`6.12`), a Debian kernel's full name, or `newest`
    #[arg(value_name = "KERNEL", default_values = ["5.10", "newest"])]
    kernels: Vec<Wanted>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<ExitCode> {
    if env::consts::ARCH != "x86_64" {
        bail!("the virtual machines are x86_64, and so must be what is built for them here");
    }
    tools::provide(workspace)?;
    // All that this command writes is in here, and a run that was killed leaves only files.
    let folder = workspace.root.join("target/vm");
    fs::create_dir_all(&folder)?;
    let _alone = wait_until_alone(&folder)?;

    let initramfs = folder.join("initramfs");
    let objects = options.fresh_ebpf.then(|| ebpf::build(workspace)).transpose()?;
    let built = build_static(workspace, &folder.join("build"), objects.as_deref())?;
    fill_initramfs(&built)?.write(&initramfs)?;
    let mut shelf = Shelf::open(&folder)?;
    let results: Vec<_> = options
        .kernels
        .iter()
        .map(|wanted| match shelf.provide(wanted) {
            Ok(kernel) => {
                Line { outcome: try_on(&kernel, &initramfs, &folder), kernel: kernel.name }
            }
            Err(error) => {
                let outcome = Outcome::Skipped(format!("{error:#}"));
                Line { kernel: wanted.to_string(), outcome }
            }
        })
        .collect();

    print!("{}", Table(&results));
    // A run that could try nothing has shown nothing.
    let passed = results.iter().any(|line| matches!(line.outcome, Outcome::Passed { .. }));
    let failed = results.iter().any(|line| matches!(line.outcome, Outcome::Failed(_)));
    Ok(if passed && !failed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What became of one kernel.
enum Outcome {
    Passed { seconds: u64 },
    Failed(Vec<String>),
    Skipped(String),
}

fn try_on(kernel: &Kernel, initramfs: &Path, folder: &Path) -> Outcome {
    let folder = folder.join("runs").join(&kernel.name);
    let run = match machine::boot(&kernel.path, initramfs, &folder) {
        Ok(run) => run,
        Err(error) => return Outcome::Failed(vec![format!("{error:#}")]),
    };
    let guest::Report { exit_code, stdout, stderr, doctor_exit_code, doctor } = &run.report;
    let mut wrong = match exit_code {
        Some(0) => traffic::check(stdout, &kernel.name),
        Some(code) => vec![format!("synfin ended with exit code {code}")],
        None => vec!["synfin was ended by a signal".into()],
    };
    if *doctor_exit_code != Some(0) {
        wrong.push("`synfin doctor` is not content".into());
    }
    if wrong.is_empty() {
        return Outcome::Passed { seconds: run.seconds };
    }
    say(format!("on {} synfin said:\n{stdout}{stderr}{doctor}", kernel.name));
    Outcome::Failed(wrong)
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

/// xtask itself is the init of the machines: see [`guest`].
fn fill_initramfs(built: &Path) -> anyhow::Result<Initramfs> {
    let program = |name: &str| {
        let path = built.join(name);
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let mut initramfs = Initramfs::default();
    for mount_point in guest::MOUNT_POINTS {
        initramfs.folder(mount_point);
    }
    initramfs.console();
    initramfs.program(guest::INIT, &program("xtask")?);
    initramfs.program(guest::SYNFIN, &program("synfin")?);
    Ok(initramfs)
}

/// Builds for a machine that has no libraries, and returns the folder of the programs.
fn build_static(
    workspace: &Workspace,
    target_dir: &Path,
    objects: Option<&Path>,
) -> anyhow::Result<PathBuf> {
    const TARGET: &str = "x86_64-unknown-linux-musl";
    tools::provide_target(workspace, TARGET)?;
    let mut build = workspace
        .cargo()
        .args(["build", "--release", "--package", "synfin", "--package", "xtask"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(target_dir);
    if let Some(objects) = objects {
        build = build.env("SYNFIN_EBPF_DIR", objects);
    }
    build.run()?;
    Ok(target_dir.join(TARGET).join("release"))
}

struct Line {
    kernel: String,
    outcome: Outcome,
}

/// All kernels, whatever became of the first.
struct Table<'a>(&'a [Line]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|line| line.kernel.len()).max().unwrap_or(0);
        for Line { kernel, outcome } in self.0 {
            match outcome {
                Outcome::Passed { seconds } => writeln!(f, "{kernel:width$}  ok ({seconds} s)")?,
                Outcome::Failed(wrong) => {
                    for what in wrong {
                        writeln!(f, "{kernel:width$}  FAILED: {what}")?;
                    }
                }
                Outcome::Skipped(why) => writeln!(f, "{kernel:width$}  SKIPPED, NOT tried: {why}")?,
            }
        }
        Ok(())
    }
}
