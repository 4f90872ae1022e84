//! `cargo xtask lint`: checks formatting, clippy and documentation; warnings are errors.

use crate::{
    ebpf,
    toolchain::Toolchain,
    workspace::{Workspace, say},
};

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    workspace.cargo().args(["fmt", "--all", "--check"]).run()?;
    for apart in ["tracer-ebpf/Cargo.toml", "tracer/fuzz/Cargo.toml"] {
        workspace.cargo().args(["fmt", "--manifest-path", apart, "--check"]).run()?;
    }

    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    workspace.cargo().args(clippy).run()?;
    lint_ebpf(workspace)?;

    workspace
        .cargo()
        .args(["doc", "--workspace", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .run()?;
    Ok(())
}

/// The eBPF programs compile only for BPF, so clippy runs with the nightly that builds them.
fn lint_ebpf(workspace: &Workspace) -> anyhow::Result<()> {
    let toolchain = match Toolchain::provide(workspace).and_then(|toolchain| {
        toolchain.provide_clippy(&workspace.sh)?;
        Ok(toolchain)
    }) {
        Ok(toolchain) => toolchain,
        Err(error) => {
            say(format!("SKIPPED: clippy did NOT check the eBPF programs.\n{error:#}"));
            return Ok(());
        }
    };
    ebpf::cargo_for_bpf(&toolchain, workspace, "clippy")?.args(["--", "-D", "warnings"]).run()?;
    Ok(())
}
