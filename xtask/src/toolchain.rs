//! Finds the pinned toolchain for eBPF, and installs missing parts of it and missing Rust targets.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};
use xshell::{Cmd, Shell, cmd};

use crate::{
    pins,
    workspace::{Workspace, find_program, say},
};

/// A nightly of the pinned commit with `rust-src`, and the pinned bpf-linker.
pub(crate) struct Toolchain {
    name: &'static str,
    pub(crate) sysroot: PathBuf,
    pub(crate) linker: PathBuf,
}

impl Toolchain {
    /// Finds the toolchain; prints a line before each installation.
    pub(crate) fn provide(workspace: &Workspace) -> anyhow::Result<Self> {
        Self::find_or_install(workspace).map_err(|error| {
            anyhow!(
                "cannot get the toolchain of the eBPF objects: {error:#}\nBy hand:\n  \
                 rustup toolchain install {nightly} --profile minimal --component rust-src\n  \
                 cargo +{nightly} install bpf-linker --version {linker} --locked",
                nightly = pins::NIGHTLY,
                linker = pins::BPF_LINKER,
            )
        })
    }

    fn find_or_install(workspace: &Workspace) -> anyhow::Result<Self> {
        let sh = &workspace.sh;
        if find_program("rustup").is_none() {
            bail!("rustup is missing, which installs the nightly (https://rustup.rs)");
        }
        let name = match find_nightly(sh) {
            Some(name) => name,
            None => install_nightly(sh)?,
        };
        let sysroot = PathBuf::from(cmd!(sh, "rustup run {name} rustc --print sysroot").read()?);
        if !sysroot.join("lib/rustlib/src/rust/library/core").is_dir() {
            say(format!("installing rust-src for {name}, to build core for BPF"));
            cmd!(sh, "rustup component add rust-src --toolchain {name}").quiet().run()?;
        }
        let tools = workspace.root.join("target/tools");
        let linker = match find_linker(sh, &tools) {
            Some(linker) => linker,
            None => install_linker(sh, name, &tools)?,
        };
        Ok(Self { name, sysroot, linker })
    }

    /// This toolchain's cargo, without environment variables that would change the object.
    pub(crate) fn cargo<'a>(&self, sh: &'a Shell) -> Cmd<'a> {
        let cargo = shielded_cargo(sh, self.name);
        // bpf-linker loads the first LLVM that it finds here, which must be this nightly's;
        // `cargo xtask` itself runs with the stable toolchain's libraries in this variable.
        cargo.env("LD_LIBRARY_PATH", self.sysroot.join("lib"))
    }

    pub(crate) fn provide_clippy(&self, sh: &Shell) -> anyhow::Result<()> {
        if !self.sysroot.join("bin/cargo-clippy").is_file() {
            let name = self.name;
            say(format!("installing clippy for {name}, to check the eBPF programs"));
            cmd!(sh, "rustup component add clippy --toolchain {name}").quiet().run()?;
        }
        Ok(())
    }
}

/// The pinned nightly, under any name.
fn find_nightly(sh: &Shell) -> Option<&'static str> {
    let commit = format!("commit-hash: {}", pins::NIGHTLY_COMMIT);
    [pins::NIGHTLY, "nightly"].into_iter().find(|name| {
        cmd!(sh, "rustup run {name} rustc -vV")
            .ignore_stderr()
            .read()
            .is_ok_and(|version| version.contains(&commit))
    })
}

fn install_nightly(sh: &Shell) -> anyhow::Result<&'static str> {
    let name = pins::NIGHTLY;
    say(format!("installing {name} with rust-src, to build the eBPF objects"));
    cmd!(sh, "rustup toolchain install {name} --profile minimal --component rust-src")
        .quiet()
        .ignore_stdout()
        .run()?;
    let found = find_nightly(sh);
    found
        .with_context(|| format!("{name} is installed, but not of commit {}", pins::NIGHTLY_COMMIT))
}

fn find_linker(sh: &Shell, tools: &Path) -> Option<PathBuf> {
    let version = format!("bpf-linker {}", pins::BPF_LINKER);
    [tools.to_path_buf(), cargo_home()]
        .into_iter()
        .map(|root| root.join("bin/bpf-linker"))
        .chain(find_program("bpf-linker"))
        .filter(|linker| linker.is_file())
        .find(|linker| {
            cmd!(sh, "{linker} --version")
                .ignore_stderr()
                .read()
                .is_ok_and(|printed| printed == version)
        })
}

/// Installs bpf-linker into `target`, so that it does not replace the user's.
fn install_linker(sh: &Shell, toolchain: &str, tools: &Path) -> anyhow::Result<PathBuf> {
    let version = pins::BPF_LINKER;
    say(format!("installing bpf-linker {version} into {} (a minute or two)", tools.display()));
    shielded_cargo(sh, toolchain)
        .args(["install", "bpf-linker", "--version", version, "--locked", "--quiet", "--root"])
        .arg(tools)
        .run()?;
    Ok(tools.join("bin/bpf-linker"))
}

fn shielded_cargo<'a>(sh: &'a Shell, toolchain: &str) -> Cmd<'a> {
    const PREFIXES: [&str; 5] =
        ["CARGO_BUILD_", "CARGO_ENCODED_", "CARGO_PROFILE_", "CARGO_TARGET_", "RUSTC"];
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names
        .filter(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .fold(cmd!(sh, "rustup run {toolchain} cargo").quiet(), Cmd::env_remove)
}

/// Installs Rust's standard library for `target` if the workspace's toolchain lacks it.
pub(crate) fn provide_target(workspace: &Workspace, target: &str) -> anyhow::Result<()> {
    let sh = &workspace.sh;
    let library = cmd!(sh, "rustc --print target-libdir --target {target}").read()?;
    if Path::new(&library).is_dir() {
        return Ok(());
    }
    if find_program("rustup").is_none() {
        bail!("this Rust toolchain cannot build for {target}, and rustup is missing to add it");
    }
    say(format!("installing Rust's target {target}, to build static programs"));
    cmd!(sh, "rustup target add {target}").quiet().run()?;
    Ok(())
}

/// The directories of unpacked sources of registry crates, one for each registry.
pub(crate) fn registry_sources() -> anyhow::Result<Vec<PathBuf>> {
    let sources = cargo_home().join("registry/src");
    let entries = fs::read_dir(&sources)
        .with_context(|| format!("cannot list the crates in {}", sources.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

fn cargo_home() -> PathBuf {
    env::var_os("CARGO_HOME")
        .filter(|home| !home.is_empty())
        .map_or_else(|| env::home_dir().unwrap_or_default().join(".cargo"), PathBuf::from)
}
