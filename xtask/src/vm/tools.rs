//! What the machines need of this one: QEMU, apt and depmod, and Rust's targets for static
//! programs.

use std::path::Path;

use anyhow::Context as _;

use super::arch::Arch;
use crate::{
    packages, toolchain,
    workspace::{Workspace, find_program},
};

/// Debian's signing keys, without which nothing that is downloaded is trusted.
pub(super) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Installs what is missing, after saying so.
pub(super) fn provide(workspace: &Workspace, archs: &[Arch]) -> anyhow::Result<()> {
    for program in ["apt-get", "apt-cache", "dpkg-deb"] {
        find_program(program).with_context(|| {
            format!("there is no {program} here: kernels are fetched as Debian packages")
        })?;
    }
    let emulators = archs.iter().map(|arch| arch.qemu());
    let programs = emulators.chain([("depmod", "kmod")]);
    let missing = programs.filter(|(program, _)| find_program(program).is_none());
    let mut missing: Vec<_> = missing.map(|(_, package)| package).collect();
    if !Path::new(KEYRING).is_file() {
        missing.push("debian-archive-keyring");
    }
    packages::install(&workspace.sh, &missing, "virtual machines")?;
    let mut targets = archs.iter().filter_map(|arch| arch.foreign_target());
    targets.try_for_each(|target| toolchain::provide_target(workspace, target))
}
