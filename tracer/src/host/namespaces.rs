//! The network namespaces of this host: those that a process is in, and those that a mount keeps.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{host::mounts, trace::ids::HOST_NETNS};

/// A way into each namespace, by inode number.
pub fn list() -> BTreeMap<u32, PathBuf> {
    let mut found = BTreeMap::new();
    for path in kept_by_mounts(&mounts::read().unwrap_or_default()) {
        if let Some(inode) = inode(&path) {
            found.entry(inode).or_insert(path);
        }
    }
    for path in of_processes() {
        // A process may end at any time: then it holds no namespace.
        if let Some(inode) = inode(&path) {
            found.entry(inode).or_insert(path);
        }
    }
    found
}

/// The name of a namespace, by a way into it: the file's, if it is in a folder for them.
pub fn name(path: &Path) -> Option<String> {
    let folder = path.parent()?.file_name()?;
    (folder == "netns").then(|| path.file_name().map(|name| name.to_string_lossy().into_owned()))?
}

/// The names that namespaces of this host have.
pub fn names(paths: &BTreeMap<u32, PathBuf>) -> BTreeMap<u32, String> {
    let mut names: BTreeMap<_, _> =
        paths.iter().filter_map(|(&inode, path)| Some((inode, name(path)?))).collect();
    if let Some(first) = inode(Path::new("/proc/1/ns/net")) {
        names.entry(first).or_insert_with(|| HOST_NETNS.to_owned());
    }
    names
}

/// Inode number of the namespace that this process is in.
pub fn own() -> Result<u32> {
    inode(Path::new("/proc/self/ns/net"))
        .context("cannot look at /proc/self/ns/net: is /proc mounted?")
}

/// Puts the calling thread, and only it, into a namespace.
pub(crate) fn enter(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    // Where it is already, it may stay without any right.
    let wanted = file.metadata().map(|metadata| metadata.ino()).ok();
    let present = fs::metadata("/proc/thread-self/ns/net").map(|metadata| metadata.ino()).ok();
    if wanted.is_some() && wanted == present {
        return Ok(());
    }
    nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("cannot enter the network namespace {}", path.display()))
}

/// How far this process can look around.
#[derive(Debug, Default)]
pub struct Reach {
    /// Namespaces that are found.
    pub found: usize,
    /// Why those of them cannot be entered that cannot.
    pub closed: Vec<anyhow::Error>,
    /// Processes whose namespace is not shown.
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
    // A thread of its own, as it does not come back.
    std::thread::spawn(enter_all).join().unwrap_or_default()
}

/// The namespace files of all processes.
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

/// Looks at a namespace's file.
fn inspect(path: &Path) -> io::Result<fs::Metadata> {
    let metadata = fs::metadata(path)?;
    // Some older kernels (5.10) show whom they deny a process's namespace the folder instead.
    if metadata.is_dir() { Err(ErrorKind::PermissionDenied.into()) } else { Ok(metadata) }
}

/// Mount points of the file system `nsfs` whose root is a network namespace.
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
