//! Our own programs for the machines: synfin, its kernel tests, and xtask, which is their init.
//! For machines like this one they are what `cargo xtask test` builds for this one. Those for
//! others are linked statically, which takes no C compiler for them.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::{arch::Arch, children};
use crate::workspace::{Workspace, say};

/// Where they are on this machine.
pub(super) struct Programs {
    pub(super) xtask: PathBuf,
    pub(super) synfin: PathBuf,
    pub(super) tests: PathBuf,
}

/// The linker that comes with Rust, which links for any machine.
const LINKER: &str = "rust-lld";

/// Builds them, with these eBPF objects in place of the committed ones if there are any.
pub(super) fn build(
    workspace: &Workspace,
    arch: Arch,
    objects: Option<&Path>,
) -> anyhow::Result<Programs> {
    say(format!("building the kernel tests for {arch}"));
    let mut build = Command::from(workspace.cargo().args(["build", "--profile", "testing"]));
    // All packages, as in a test run: otherwise features differ, and with them what is built.
    build.args(["--workspace", "--bin", "synfin", "--test", "kernel", "--bin", "xtask"]);
    build.args(["--message-format", "json-render-diagnostics"]);
    if let Some(target) = arch.foreign_target() {
        build.args(["--target", target]);
        let linker = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
        build.env(linker, LINKER);
    }
    if let Some(objects) = objects {
        build.env("SYNFIN_EBPF_DIR", objects);
    }
    let mut cargo =
        children::bind(&mut build).stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let messages = BufReader::new(cargo.stdout.take().context("cargo has no output")?);
    let mut built = BTreeMap::new();
    for message in messages.lines() {
        if let Ok(Built { target, executable: Some(executable) }) = serde_json::from_str(&message?)
        {
            built.insert((target.kind, target.name), executable);
        }
    }
    let status = cargo.wait()?;
    if !status.success() {
        bail!("cannot build the kernel tests for {arch} ({status})");
    }
    let mut take = |kind: &str, name: &str| {
        let program = built.remove(&(vec![kind.to_owned()], name.to_owned()));
        program.with_context(|| format!("cargo does not say where it built {name}"))
    };
    let (xtask, synfin) = (take("bin", "xtask")?, take("bin", "synfin")?);
    Ok(Programs { xtask, synfin, tests: take("test", "kernel")? })
}

/// Of cargo's messages, those of a program.
#[derive(Deserialize)]
struct Built {
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}
