//! Checks synfin without the feature `live`: such a build reads recordings, and compiles for systems
//! on which synfin cannot trace.

use anyhow::Context as _;
use xshell::cmd;

use crate::workspace::{Workspace, find_program, say};

/// Targets without Linux, one of them without Unix.
const TARGETS: [&str; 2] = ["aarch64-apple-darwin", "x86_64-pc-windows-gnu"];

const BUILD: [&str; 3] = ["--package", "synfin", "--no-default-features"];

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let clippy = || workspace.cargo().arg("clippy").args(BUILD).args(["--lib", "--bins"]);
    for target in TARGETS {
        match provide(workspace, target) {
            Ok(()) => {
                clippy().args(["--target", target, "--", "-D", "warnings"]).run()?;
            }
            Err(error) => say(format!("SKIPPED: synfin was NOT checked for {target}.\n{error:#}")),
        }
    }
    clippy().args(["--", "-D", "warnings"]).run()?;
    workspace.cargo().arg("test").args(BUILD).arg("--lib").run()?;
    Ok(())
}

/// Installs a target's standard library for the toolchain that runs this.
fn provide(workspace: &Workspace, target: &str) -> anyhow::Result<()> {
    find_program("rustup").context("rustup is missing, which installs targets")?;
    let sh = &workspace.sh;
    cmd!(sh, "rustup target add {target}").quiet().run()?;
    Ok(())
}
