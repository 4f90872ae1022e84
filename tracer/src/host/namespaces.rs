//! The network namespaces of this host that a process is in or that a mount keeps alive.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{host::mounts, trace::ids::HOST_NETNS};

/// Maps each namespace's inode number to a path through which it can be entered.
pub fn list() -> BTreeMap<u32, PathBuf> {
    let mut found = BTreeMap::new();
    for path in kept_by_mounts(&mounts::read().unwrap_or_default()) {
        if let Some(inode) = inode(&path) {
            found.entry(inode).or_insert(path);
        }
    }
    for path in of_processes() {
        // A process may exit at any time; it then no longer holds a namespace.
        if let Some(inode) = inode(&path) {
            found.entry(inode).or_insert(path);
        }
    }
    found
}

/// The name of a namespace by its path: the file name, if the file is in a directory for named
/// namespaces.
pub fn name(path: &Path) -> Option<String> {
    let folder = path.parent()?.file_name()?;
    (folder == "netns").then(|| path.file_name().map(|name| name.to_string_lossy().into_owned()))?
}

/// The names of this host's namespaces by inode number.
pub fn names(paths: &BTreeMap<u32, PathBuf>) -> BTreeMap<u32, String> {
    let mut names: BTreeMap<_, _> =
        paths.iter().filter_map(|(&inode, path)| Some((inode, name(path)?))).collect();
    if let Some(first) = inode(Path::new("/proc/1/ns/net")) {
        names.entry(first).or_insert_with(|| HOST_NETNS.to_owned());
    }
    names
}

/// Inode number of this process's network namespace.
///
/// # Errors
///
/// /proc/self/ns/net cannot be read.
pub fn own() -> Result<u32> {
    inode(Path::new("/proc/self/ns/net"))
        .context("cannot read /proc/self/ns/net: is /proc mounted?")
}

/// Moves the calling thread, and no other, into a network namespace.
pub(crate) fn enter(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    // A thread needs no privilege to stay in the namespace that it is already in.
    let wanted = file.metadata().map(|metadata| metadata.ino()).ok();
    let present = fs::metadata("/proc/thread-self/ns/net").map(|metadata| metadata.ino()).ok();
    if wanted.is_some() && wanted == present {
        return Ok(());
    }
    nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("cannot enter the network namespace {}", path.display()))
}

/// Which namespaces this process can see and enter.
#[derive(Debug, Default)]
pub struct Reach {
    /// Number of namespaces found.
    pub found: usize,
    /// For each namespace that cannot be entered, the reason.
    pub closed: Vec<anyhow::Error>,
    /// Number of processes whose namespace this process may not see.
    pub hidden: usize,
}

/// Tries to enter every namespace.
pub fn reach() -> Reach {
    let enter_all = || {
        let namespaces = list();
        let closed = namespaces.values().filter_map(|path| enter(path).err()).collect();
        let is_hidden = |path: &PathBuf| {
            inspect(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
        };
        Reach { found: namespaces.len(), closed, hidden: of_processes().filter(is_hidden).count() }
    };
    // A separate thread does this because it stays in the last namespace that it enters.
    std::thread::spawn(enter_all).join().unwrap_or_default()
}

/// The network namespace files of all processes.
fn of_processes() -> impl Iterator<Item = PathBuf> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_process = |entry: &fs::DirEntry| {
        entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok())
    };
    processes.filter(is_process).map(|process| process.path().join("ns/net"))
}

fn inode(path: &Path) -> Option<u32> {
    inspect(path).ok().and_then(|metadata| u32::try_from(metadata.ino()).ok())
}

/// Reads the metadata of a namespace file.
fn inspect(path: &Path) -> io::Result<fs::Metadata> {
    let metadata = fs::metadata(path)?;
    // Some older kernels (5.10) show the directory instead of the namespace if access is denied.
    if metadata.is_dir() { Err(ErrorKind::PermissionDenied.into()) } else { Ok(metadata) }
}

/// Mount points of type `nsfs` whose root is a network namespace.
fn kept_by_mounts(mountinfo: &[u8]) -> impl Iterator<Item = PathBuf> {
    mounts::parse(mountinfo)
        .filter(|mount| mount.root.starts_with(b"net:["))
        .map(|mount| mount.point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_network_namespaces_are_found() {
        let text = b"1 0 0:1 / / rw - ext4 /dev/vda rw\n\
            2 1 0:4 net:[4026532241] /run/netns/a\\040b rw shared:2 - nsfs nsfs rw\n\
            3 1 0:4 mnt:[4026532242] /run/mnt rw - nsfs nsfs rw\n\
            4 1 0:9 / /mnt/caf\xe9 rw - nfs server:/cafe rw\n";
        let found: Vec<_> = kept_by_mounts(text).collect();
        assert_eq!(found, [PathBuf::from("/run/netns/a b")]);
    }
}
