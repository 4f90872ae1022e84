//! synfin and its kernel tests for the virtual machines. For this machine's architecture they are
//! built as `cargo xtask test` builds them; for others they are linked
//! statically, which needs no C compiler.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use super::arch::Arch;
use crate::workspace::{Workspace, say};

pub(super) struct Programs {
    pub(super) synfin: PathBuf,
    pub(super) tests: PathBuf,
}

/// The linker that comes with Rust, which links for any architecture.
const LINKER: &str = "rust-lld";

/// Builds them, with `objects` instead of the committed eBPF objects if given.
pub(super) fn build(
    workspace: &Workspace,
    arch: Arch,
    objects: Option<&Path>,
) -> anyhow::Result<Programs> {
    say(format!("building the kernel tests for {arch}"));
    // The whole workspace, as in a test run: otherwise features differ, and everything is rebuilt.
    let mut cargo = workspace
        .cargo()
        .args(["build", "--profile", "testing", "--workspace"])
        .args(["--bin", "synfin", "--test", "kernel"])
        .args(["--message-format", "json-render-diagnostics"]);
    if let Some(target) = arch.foreign_target() {
        let linker = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
        cargo = cargo.args(["--target", target]).env(linker, LINKER);
    }
    if let Some(objects) = objects {
        cargo = cargo.env("SYNFIN_EBPF_DIR", objects);
    }
    let messages = cargo.read().with_context(|| format!("cannot build the tests for {arch}"))?;
    let messages: Vec<Value> = messages.lines().flat_map(serde_json::from_str).collect();
    let find = |kind: &str, name: &str| {
        let is_it = |message: &&Value| {
            let target = &message["target"];
            target["kind"][0] == kind && target["name"] == name && message["executable"].is_string()
        };
        let path = messages.iter().find(is_it).and_then(|message| message["executable"].as_str());
        path.map(PathBuf::from).with_context(|| format!("cargo does not print the path of {name}"))
    };
    Ok(Programs { synfin: find("bin", "synfin")?, tests: find("test", "kernel")? })
}
