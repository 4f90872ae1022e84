//! The network namespaces of this host that a process is in or that a mount keeps alive.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{fs::MetadataExt, net::UnixDatagram},
    },
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use synfin_common::holder::NamespaceHolder;

use crate::{
    host::mounts,
    trace::ids::{HOST_NETNS, NetnsId, NetnsInode},
};

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its inode number.
    pub inode: NetnsInode,
    /// A path through which it can be entered.
    pub path: PathBuf,
}

/// The network namespaces of this host.
#[derive(Debug, Default)]
pub struct Listing {
    /// The namespaces.
    pub namespaces: BTreeMap<NetnsId, Namespace>,
    /// Number of processes whose namespace this process may not see.
    pub hidden: usize,
    /// For each namespace that cannot be entered, the reason. Where namespaces have cookies, only those
    /// that can be entered are in `namespaces`.
    pub closed: Vec<anyhow::Error>,
}

impl Listing {
    /// Whether no namespace is missing, except those that neither a process nor a mount keeps.
    pub fn is_complete(&self) -> bool {
        self.hidden == 0 && self.closed.is_empty()
    }

    /// A path to each namespace.
    pub fn into_paths(self) -> BTreeMap<NetnsId, PathBuf> {
        self.namespaces.into_iter().map(|(id, namespace)| (id, namespace.path)).collect()
    }

    /// The names of the namespaces.
    pub fn names(&self) -> BTreeMap<NetnsId, String> {
        let first = inode(Path::new("/proc/1/ns/net"));
        let name = |namespace: &Namespace| {
            name(&namespace.path)
                .or_else(|| (Some(namespace.inode) == first).then(|| HOST_NETNS.to_owned()))
        };
        self.namespaces.iter().filter_map(|(&id, namespace)| Some((id, name(namespace)?))).collect()
    }

    /// The inode numbers of the namespaces whose ids differ from these.
    pub fn inodes(&self) -> BTreeMap<NetnsId, NetnsInode> {
        let inodes = self.namespaces.iter().map(|(&id, namespace)| (id, namespace.inode));
        inodes.filter(|(id, inode)| id != inode).collect()
    }
}

/// Lists the namespaces of these threads, of processes, and those that mounts keep alive. Enters those
/// that no thread in `holders` is in, to read their cookies, and returns.
pub fn list(holders: &[NamespaceHolder]) -> Listing {
    let mut listing = Listing::default();
    let mut inodes = BTreeSet::new();
    for &NamespaceHolder { netns, inode, pid, thread, .. } in oldest(holders) {
        inodes.insert(inode);
        let path = PathBuf::from(format!("/proc/{pid}/task/{thread}/ns/net"));
        listing.namespaces.insert(netns, Namespace { inode, path });
    }
    // A thread needs no privilege to open the file of its own namespace.
    let own = PathBuf::from("/proc/self/ns/net");
    let inode_of_own = inode(&own);
    if let Some(known) = listing.namespaces.values_mut().find(|it| Some(it.inode) == inode_of_own) {
        known.path = own;
    }
    let mounts = mounts::read().unwrap_or_default();
    for path in kept_by_mounts(&mounts) {
        listing.add(path, &mut inodes);
    }
    // All threads are in `holders`, if the kernel lists them.
    if holders.is_empty() {
        for path in of_processes() {
            listing.add(path, &mut inodes);
        }
    }
    listing
}

/// The oldest thread in each namespace, which is the least likely to end before a scan of the namespace.
/// Ids of processes do not show it, as they wrap around.
fn oldest(holders: &[NamespaceHolder]) -> impl Iterator<Item = &NamespaceHolder> {
    let mut oldest = HashMap::<_, &NamespaceHolder>::new();
    for holder in holders {
        let known = oldest.entry(holder.inode).or_insert(holder);
        if holder.start_time < known.start_time {
            *known = holder;
        }
    }
    oldest.into_values()
}

impl Listing {
    /// Adds the namespace at a path.
    fn add(&mut self, path: PathBuf, inodes: &mut BTreeSet<NetnsInode>) {
        let inode = match inspect(&path).map(|metadata| u32::try_from(metadata.ino())) {
            Ok(Ok(inode)) => inode,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                self.hidden += 1;
                return;
            }
            // A process may exit at any time; it then no longer holds a namespace.
            Ok(Err(_)) | Err(_) => return,
        };
        if !inodes.insert(inode) {
            // The path of a mount has the name, and stays.
            let known = self.namespaces.values_mut().find(|known| known.inode == inode);
            if let Some(known) = known.filter(|_| name(&path).is_some()) {
                known.path = path;
            }
            return;
        }
        match within(&path, id) {
            Ok(id) => {
                self.namespaces.insert(id.unwrap_or(inode), Namespace { inode, path });
            }
            Err(error) if path.exists() => {
                self.closed.push(error);
                if !have_cookies() {
                    self.namespaces.insert(inode, Namespace { inode, path });
                }
            }
            // It is gone since.
            Err(_) => {}
        }
    }
}

/// The name of a namespace by its path: the file name, if the file is in a directory for named
/// namespaces.
fn name(path: &Path) -> Option<String> {
    let folder = path.parent()?.file_name()?;
    (folder == "netns").then(|| path.file_name().map(|name| name.to_string_lossy().into_owned()))?
}

/// This process's network namespace.
///
/// # Errors
///
/// /proc/self/ns/net cannot be read.
pub fn own() -> Result<NetnsId> {
    let inode =
        inode(Path::new(OWN)).context("cannot read /proc/self/ns/net: is /proc mounted?")?;
    Ok(id().unwrap_or(inode))
}

/// Whether namespaces have cookies that a process can read (since 5.14).
pub(crate) fn have_cookies() -> bool {
    static HAVE: OnceLock<bool> = OnceLock::new();
    *HAVE.get_or_init(|| id().is_some())
}

/// The lower half of the cookie of the calling thread's namespace; `None` if it cannot be read.
pub(crate) fn id() -> Option<NetnsId> {
    let socket = UnixDatagram::unbound().ok()?;
    let mut cookie = 0_u64;
    let mut size = libc::socklen_t::try_from(size_of_val(&cookie)).ok()?;
    // SAFETY: the kernel writes at most `size` bytes to `cookie`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    #[expect(clippy::cast_possible_truncation, reason = "it identifies the namespace as well")]
    (result == 0).then_some(cookie as NetnsId)
}

const OWN: &str = "/proc/thread-self/ns/net";

/// Calls `visit` with the calling thread, and no other, in a network namespace. Afterwards the thread
/// is in its own again: a thread that stays keeps a deleted namespace and its devices alive.
///
/// # Errors
///
/// The namespace cannot be entered. If the thread cannot return, which it has just shown to be
/// allowed, there is no safe way to go on: it panics.
pub(crate) fn within<T>(path: &Path, visit: impl FnOnce() -> T) -> Result<T> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let own = File::open(OWN).context("cannot open /proc/thread-self/ns/net: is /proc mounted?")?;
    let ino = |file: &File| file.metadata().map(|metadata| metadata.ino()).ok();
    // A thread needs no privilege to stay in the namespace that it is already in.
    if ino(&file).is_some_and(|wanted| ino(&own) == Some(wanted)) {
        return Ok(visit());
    }
    setns(file.as_fd(), CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("cannot enter the network namespace {}", path.display()))?;
    let _home = Home(own.into());
    Ok(visit())
}

/// Returns to a network namespace when dropped.
struct Home(OwnedFd);

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET) {
            panic!("cannot return to the own network namespace: {error}");
        }
    }
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
    fn a_namespace_is_entered_through_its_oldest_thread() {
        let holder = |inode, pid, start_time| NamespaceHolder {
            start_time,
            netns: inode % 10,
            inode,
            pid,
            thread: pid + 1,
        };
        let holders =
            [holder(4, 300, 9), holder(5, 301, 8), holder(4, 32_000, 5), holder(4, 32_100, 6)];
        let namespaces = list(&holders).namespaces;
        assert_eq!(namespaces[&4].path, Path::new("/proc/32000/task/32001/ns/net"));
        assert_eq!(namespaces[&5].path, Path::new("/proc/301/task/302/ns/net"));
    }

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
