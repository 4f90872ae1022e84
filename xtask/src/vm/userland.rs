//! What machines have besides a kernel and our own programs: the tools of Debian that the kernel
//! tests call. Packages are only unpacked, nothing of them is run here, so those of another
//! architecture serve as well.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{
    apt::{Apt, remove_folder},
    arch::Arch,
    initramfs::Initramfs,
};
use crate::workspace::say;

/// Programs of the kernel tests, and `modprobe`, which the kernel itself calls.
const PACKAGES: [&str; 9] =
    ["bash", "coreutils", "dash", "iproute2", "kmod", "mount", "nftables", "tcpdump", "util-linux"];

/// What none of them needs to run, below the root.
const UNUSED: [&str; 2] = ["usr/share", "var"];
/// Likewise, by name, wherever it is.
const UNUSED_NAMED: [&str; 3] = ["gconv", "perl-base", "systemd"];

/// Where Debian has had its programs and libraries for long, and has them in truth.
const MERGED: [(&str, &str); 4] =
    [("/bin", "usr/bin"), ("/sbin", "usr/sbin"), ("/lib", "usr/lib"), ("/lib64", "usr/lib64")];

/// `tcpdump` wants to be a user of its own.
const FILES: [(&str, &str); 3] = [
    (
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\n\
         tcpdump:x:100:100::/nonexistent:/usr/sbin/nologin\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("/etc/group", "root:x:0:\ntcpdump:x:100:\nnogroup:x:65534:\n"),
    ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
];

/// An archive of all that, made once and kept in `folder`.
pub(super) fn provide(arch: Arch, apt: &Apt, folder: &Path) -> anyhow::Result<PathBuf> {
    let (archive, made_of) = (folder.join("userland.cpio"), folder.join("userland.made-of"));
    let recipe = format!("{PACKAGES:?} {UNUSED:?} {UNUSED_NAMED:?} {MERGED:?} {FILES:?}");
    if archive.is_file() && fs::read_to_string(&made_of).is_ok_and(|present| present == recipe) {
        return Ok(archive);
    }
    say(format!("downloading Debian's {} for {arch}", PACKAGES.join(", ")));
    let unpacked = folder.join("userland");
    remove_folder(&unpacked)?;
    let context = || format!("cannot get a file system for machines of {arch}");
    apt.unpack_with_dependencies(&PACKAGES, &unpacked).with_context(context)?;
    let mut initramfs = Initramfs::default();
    for (path, target) in MERGED {
        initramfs.link(path, target);
    }
    initramfs.tree("", &unpacked, &|path| {
        UNUSED.iter().all(|unused| !path.starts_with(unused))
            && UNUSED_NAMED.iter().all(|unused| !path.ends_with(unused))
    })?;
    for (path, content) in FILES {
        initramfs.file(path, content.as_bytes());
    }
    initramfs.write(&archive)?;
    remove_folder(&unpacked)?;
    // Last, as it says that all of it is there.
    fs::write(&made_of, recipe)?;
    Ok(archive)
}
