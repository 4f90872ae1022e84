//! Archives from which the kernel creates the file system of a virtual machine. Several archives in
//! one file are unpacked over each other.

use std::{fs, path::Path};

use anyhow::Context as _;
use xshell::{Shell, cmd};

/// Archives all files below `folder`, owned by root.
pub(super) fn write(sh: &Shell, folder: &Path, archive: &Path) -> anyhow::Result<()> {
    let _there = sh.push_dir(folder);
    let files = cmd!(sh, "find . -mindepth 1 -print0").quiet().read()?;
    let options = ["--null", "--create", "--format=newc", "--owner=+0:+0", "--quiet"];
    cmd!(sh, "cpio {options...} -O {archive}").stdin(files).quiet().run()?;
    Ok(())
}

/// Copies a file to the path `to` below `root`.
pub(super) fn copy(root: &Path, from: &Path, to: &Path) -> anyhow::Result<()> {
    let to = root.join(to.strip_prefix("/")?);
    fs::create_dir_all(to.parent().context("a path without a directory")?)?;
    fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

/// Creates an empty directory.
pub(super) fn empty_folder(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    Ok(fs::create_dir_all(folder)?)
}
