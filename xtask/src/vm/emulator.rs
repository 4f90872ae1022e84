//! The emulator: this machine's, or else Debian's, unpacked with all of its libraries. That needs no
//! root, and does not depend on what is installed here.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use xshell::Shell;

use super::{apt::Apt, arch::Arch, archive::empty_folder};
use crate::workspace::{find_program, say};

/// A program with its first arguments.
#[derive(Clone)]
pub(super) struct Emulator(pub(super) Vec<OsString>);

/// Where the package and its dependencies have the firmware.
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

impl Emulator {
    /// The emulator of this architecture, which is unpacked into its `folder` if need be.
    pub(super) fn provide(sh: &Shell, arch: Arch, folder: &Path) -> anyhow::Result<Self> {
        let (program, package) = arch.qemu();
        if let Some(program) = find_program(program) {
            return Ok(Self(vec![program.into()]));
        }
        let (root, unpacked) = (folder.join("emulator"), folder.join("emulator.unpacked"));
        if !unpacked.is_file() {
            say(format!("downloading the Debian package {package}"));
            empty_folder(&root)?;
            let here = Arch::of_this_machine()?;
            let apt = Apt::open(sh, here, folder.with_file_name(here.name()).join("apt"))?;
            apt.unpack_with_dependencies(&[package], &root).context("cannot get an emulator")?;
            // Last, because its existence means that all is unpacked.
            fs::write(unpacked, "")?;
        }
        Self::unpacked(&root, program)
    }

    /// Its dynamic linker runs it with its libraries.
    fn unpacked(root: &Path, program: &str) -> anyhow::Result<Self> {
        let libraries = entry(&root.join("usr/lib"), |name| name.ends_with("-linux-gnu"))?;
        let linker = entry(&libraries, |name| name.starts_with("ld-linux-"))?;
        let mut command = vec![linker.into(), "--library-path".into(), libraries.into()];
        command.push(root.join("usr/bin").join(program).into());
        for firmware in FIRMWARE {
            command.extend(["-L".into(), root.join(firmware).into()]);
        }
        Ok(Self(command))
    }
}

/// The path of the entry of a directory whose name is the right one.
fn entry(folder: &Path, is_it: impl Fn(&str) -> bool) -> anyhow::Result<PathBuf> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&is_it) {
            return Ok(entry.path());
        }
    }
    anyhow::bail!("{} has not what an emulator needs", folder.display())
}
