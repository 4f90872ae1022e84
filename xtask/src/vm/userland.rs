//! The Debian programs of a virtual machine that the kernel tests call.
//! Packages are only unpacked, so packages of another architecture work too.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use xshell::Shell;

use super::{
    apt::Apt,
    archive::{self, empty_folder},
};
use crate::workspace::say;

/// Programs of the init and of the kernel tests, and `modprobe`, which the kernel calls.
const PACKAGES: [&str; 9] =
    ["bash", "coreutils", "dash", "iproute2", "kmod", "mount", "nftables", "tcpdump", "util-linux"];

/// Directories of the packages that are not needed at run time.
const UNUSED: [&str; 2] = ["usr/share", "var"];

/// Debian's links from the old directories of programs and libraries to the new ones.
const LINKS: [(&str, &str); 4] =
    [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")];

/// Mount points, and directories for written files.
const FOLDERS: [&str; 6] = ["dev", "proc", "sys", "run", "tmp", "root"];

/// `tcpdump` changes to a user of its own.
const FILES: [(&str, &str); 3] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\n\
         tcpdump:x:100:100::/nonexistent:/usr/sbin/nologin\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("etc/group", "root:x:0:\ntcpdump:x:100:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
];

/// Creates the archive, once.
pub(super) fn provide(sh: &Shell, apt: &Apt<'_>, folder: &Path) -> anyhow::Result<PathBuf> {
    let (archive, made_of) = (folder.join("userland.cpio"), folder.join("userland.made-of"));
    let recipe = format!("{PACKAGES:?} {UNUSED:?} {LINKS:?} {FOLDERS:?} {FILES:?}");
    if archive.is_file() && fs::read_to_string(&made_of).is_ok_and(|present| present == recipe) {
        return Ok(archive);
    }
    say(format!("downloading the Debian packages {}", PACKAGES.join(", ")));
    let root = folder.join("userland");
    empty_folder(&root)?;
    apt.unpack_with_dependencies(&PACKAGES, &root).context("cannot get a file system")?;
    for unused in UNUSED {
        fs::remove_dir_all(root.join(unused))?;
    }
    for (link, target) in LINKS {
        if !root.join(link).exists() {
            symlink(target, root.join(link))?;
        }
    }
    for name in FOLDERS {
        fs::create_dir_all(root.join(name))?;
    }
    for (path, content) in FILES {
        fs::write(root.join(path), content)?;
    }
    archive::write(sh, &root, &archive)?;
    fs::remove_dir_all(&root)?;
    // Last, because its existence means that the archive is complete.
    fs::write(&made_of, recipe)?;
    Ok(archive)
}
