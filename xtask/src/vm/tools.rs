//! What the machines need of this one: QEMU and apt, and Rust's target for static programs.

use std::path::Path;

use anyhow::{Context as _, bail};
use xshell::cmd;

use crate::{
    packages,
    workspace::{Workspace, find_program, say},
};

pub(super) const QEMU: &str = "qemu-system-x86_64";

/// Debian's signing keys, without which nothing that is downloaded is trusted.
pub(super) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Installs what is missing, after saying so.
pub(super) fn provide(workspace: &Workspace) -> anyhow::Result<()> {
    for program in ["apt-get", "apt-cache", "dpkg-deb"] {
        find_program(program).with_context(|| {
            format!("there is no {program} here: kernels are fetched as Debian packages")
        })?;
    }
    let mut missing = Vec::new();
    if find_program(QEMU).is_none() {
        missing.push("qemu-system-x86");
    }
    if !Path::new(KEYRING).is_file() {
        missing.push("debian-archive-keyring");
    }
    packages::install(&workspace.sh, &missing, "virtual machines")
}

/// Rust's library for `target`, of the toolchain that builds the workspace.
pub(super) fn provide_target(workspace: &Workspace, target: &str) -> anyhow::Result<()> {
    let sh = &workspace.sh;
    let library = cmd!(sh, "rustc --print target-libdir --target {target}").read()?;
    if Path::new(&library).is_dir() {
        return Ok(());
    }
    if find_program("rustup").is_none() {
        bail!("this Rust cannot build for {target}, and there is no rustup to add it");
    }
    say(format!("installing Rust's {target}, to build static programs for the virtual machines"));
    cmd!(sh, "rustup target add {target}").quiet().run()?;
    Ok(())
}
