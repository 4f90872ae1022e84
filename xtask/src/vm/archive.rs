//! Archives of which the kernel makes the file system of a virtual machine. Several of them in one
//! file are unpacked one over the other.

use std::{fs, path::Path};

use anyhow::Context as _;
use xshell::{Shell, cmd};

/// Archives all files below `folder`, as root's.
pub(super) fn write(sh: &Shell, folder: &Path, archive: &Path) -> anyhow::Result<()> {
    let _there = sh.push_dir(folder);
    let files = cmd!(sh, "find . -mindepth 1 -print0").quiet().read()?;
    let options = ["--null", "--create", "--format=newc", "--owner=+0:+0", "--quiet"];
    cmd!(sh, "cpio {options...} -O {archive}").stdin(files).quiet().run()?;
    Ok(())
}

/// Copies a file to where `root` is to have it.
pub(super) fn copy(root: &Path, from: &Path, to: &Path) -> anyhow::Result<()> {
    let to = root.join(to.strip_prefix("/")?);
    fs::create_dir_all(to.parent().context("a path without a folder")?)?;
    fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

/// Makes an empty folder.
pub(super) fn empty_folder(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    Ok(fs::create_dir_all(folder)?)
}
