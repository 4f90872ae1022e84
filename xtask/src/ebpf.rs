//! `cargo xtask ebpf`: builds the eBPF objects, reproducibly in any directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use xshell::Cmd;

use crate::{
    manifest::{self, COMMITTED, Manifest, PROGRAMS, object_name},
    pins, rustc,
    toolchain::{self, Toolchain},
    workspace::{Workspace, say},
};

/// The eBPF programs are a workspace of their own, with their own lock file.
const PACKAGE: [&str; 3] = ["--locked", "--manifest-path", "tracer-ebpf/Cargo.toml"];

/// A separate target directory, so that eBPF and host builds do not invalidate each other.
const TARGET_DIR: &str = "target/ebpf-build";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only build into target/ebpf, and print that path
    #[arg(long, conflicts_with = "check")]
    fresh: bool,
    /// Change nothing; fail unless the committed objects match the sources
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    if options.check {
        check(workspace)
    } else if options.fresh {
        println!("{}", build(workspace)?.display());
        Ok(())
    } else {
        install(workspace)
    }
}

/// Builds the objects into `target/ebpf` and returns that directory.
pub(crate) fn build(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    build_with(&Toolchain::provide(workspace)?, workspace)
}

/// Fails unless the committed objects match the sources. Without the toolchain it checks only the
/// manifest.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<()> {
    manifest::verify(&workspace.root)?;
    let toolchain = match Toolchain::provide(workspace) {
        Ok(toolchain) => toolchain,
        Err(error) => {
            say(format!(
                "SKIPPED: the committed eBPF objects were NOT rebuilt and compared.\n{error:#}"
            ));
            return Ok(());
        }
    };
    let built = build_with(&toolchain, workspace)?;
    for object in PROGRAMS.map(object_name) {
        if read(&built.join(&object))? != read(&workspace.root.join(COMMITTED).join(&object))? {
            bail!(
                "{COMMITTED}/{object} is not what its sources build to here, which is {}/{object}. \
                 It may be edited or built by other means: run `cargo xtask ebpf` to rebuild it",
                built.display(),
            );
        }
    }
    Ok(())
}

fn install(workspace: &Workspace) -> anyhow::Result<()> {
    let built = build(workspace)?;
    let committed = workspace.root.join(COMMITTED);
    fs::create_dir_all(&committed)?;
    for object in PROGRAMS.map(object_name) {
        copy_if_changed(&built.join(&object), &committed.join(&object))?;
    }
    Manifest::compute(&workspace.root, &committed)?.write(&committed)
}

fn build_with(toolchain: &Toolchain, workspace: &Workspace) -> anyhow::Result<PathBuf> {
    // Unpacks the crates, because the paths of their directories are remapped.
    let fetch = toolchain.cargo(&workspace.sh).args(["fetch", "--quiet"]);
    fetch.args(PACKAGE).run()?;
    cargo_for_bpf(toolchain, workspace, "build")?.arg("--release").run()?;

    let built = workspace.root.join(TARGET_DIR).join(pins::TARGET);
    let objects = workspace.root.join("target/ebpf");
    fs::create_dir_all(&objects)?;
    for program in PROGRAMS {
        let object = objects.join(object_name(program));
        copy_if_changed(&built.join("release").join(program), &object)?;
    }
    Ok(objects)
}

/// A cargo command for the eBPF programs, with the pinned flags.
pub(crate) fn cargo_for_bpf<'a>(
    toolchain: &Toolchain,
    workspace: &'a Workspace,
    subcommand: &str,
) -> anyhow::Result<Cmd<'a>> {
    let linker = format!("-Clinker={}", toolchain.linker.display());
    let flags = pins::RUSTFLAGS.iter().map(|&flag| flag.to_owned());
    let flags: Vec<_> =
        flags.chain([linker]).chain(remapped_paths(toolchain, workspace)?).collect();
    let cargo = rustc::wrap(toolchain.cargo(&workspace.sh))?;
    Ok(cargo
        .arg(subcommand)
        .args(PACKAGE)
        .args(["--target", pins::TARGET, "-Zbuild-std=core"])
        // Times alone would miss a source that was restored together with its old time.
        .arg("-Zchecksum-freshness")
        .args(["--target-dir", TARGET_DIR])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")))
}

/// Flags that give the paths of sources in panic messages the same prefix everywhere.
fn remapped_paths(toolchain: &Toolchain, workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    // rustc uses the last prefix that matches, so the innermost directories come last.
    let mut flags = vec![remap(&workspace.root, "/synfin"), remap(&toolchain.sysroot, "/rust")];
    flags.extend(toolchain::registry_sources()?.iter().map(|folder| remap(folder, "/registry")));
    Ok(flags)
}

/// Leaves an equal file untouched, because cargo would rebuild all crates that depend on it.
fn copy_if_changed(from: &Path, to: &Path) -> anyhow::Result<()> {
    let content = read(from)?;
    if fs::read(to).is_ok_and(|present| present == content) {
        return Ok(());
    }
    fs::write(to, content).with_context(|| format!("cannot write {}", to.display()))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
