//! Version 2 cgroups: resolves an id to a path, and a path to a cgroup.

use std::{
    ffi::{c_int, c_uint},
    fs::{self, File},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::containers;
use crate::{
    host::mounts::{self, Mount},
    trace::{
        filter::{Cgroup, KernelCgroup},
        names::CgroupName,
    },
};

/// Type of a file handle that holds the id of a kernfs node (`FILEID_KERNFS`,
/// `include/linux/exportfs.h`).
const FILEID_KERNFS: c_int = 0xfe;

/// Inode number of the initial cgroup namespace (`PROC_CGROUP_INIT_INO`,
/// `include/linux/proc_ns.h`).
const FIRST_CGROUP_NAMESPACE: u64 = 0xefff_fffb;

/// The mounted cgroup hierarchy.
#[derive(Debug)]
pub struct Hierarchy {
    mount: PathBuf,
    directory: File,
}

/// `struct file_handle` with room for a 64-bit id.
#[repr(C)]
struct Handle {
    bytes: c_uint,
    kind: c_int,
    id: [u8; 8],
}

impl Hierarchy {
    /// Finds the mounted hierarchy. Returns an error if no cgroup2 file system is mounted from its
    /// root.
    ///
    /// # Errors
    ///
    /// There is no cgroup v2 hierarchy, or its directory cannot be opened.
    pub fn find() -> Result<Self> {
        let mounts =
            mounts::read().context("cannot read /proc/self/mountinfo: is /proc mounted?")?;
        let Some(mount) = mount_point(&mounts) else {
            bail!("no cgroup hierarchy of version 2 is mounted, usually at /sys/fs/cgroup");
        };
        let directory =
            File::open(&mount).with_context(|| format!("cannot open {}", mount.display()))?;
        Ok(Self { mount, directory })
    }

    /// The mount point of the hierarchy.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The name of the cgroup with this id, or `None` if the cgroup no longer exists.
    pub fn name(&self, id: u64) -> Option<CgroupName> {
        let path = self.path(id)?;
        let container = containers::of(&path);
        Some(CgroupName { path, container })
    }

    fn path(&self, id: u64) -> Option<String> {
        let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id: id.to_ne_bytes() };
        // SAFETY: `handle` has the size that it states, and the caller owns the returned
        // descriptor.
        let directory = unsafe {
            let fd = libc::syscall(
                libc::SYS_open_by_handle_at,
                self.directory.as_raw_fd(),
                &raw mut handle,
                libc::O_PATH | libc::O_CLOEXEC,
            );
            let fd = c_int::try_from(fd).ok()?;
            (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
        }?;
        let path = fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd())).ok()?;
        let below = path.strip_prefix(&self.mount).ok()?;
        Some(below.to_string_lossy().into_owned())
    }

    /// Resolves a cgroup that a user names, either by a path below the root or by a path in the
    /// file system.
    ///
    /// # Errors
    ///
    /// There is no such cgroup.
    pub fn resolve(&self, path: &Path) -> Result<Cgroup> {
        let below =
            path.strip_prefix(&self.mount).or_else(|_| path.strip_prefix("/")).unwrap_or(path);
        let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        let directory =
            below.components().all(is_plain).then(|| fs::metadata(self.mount.join(below)));
        let Some(metadata) = directory.and_then(Result::ok).filter(fs::Metadata::is_dir) else {
            bail!("there is no cgroup {} below {}", below.display(), self.mount.display());
        };
        // In another cgroup namespace, the visible root and its depth differ from the kernel's.
        let is_whole = in_initial_namespace();
        let level = u32::try_from(below.components().count())?;
        Ok(Cgroup {
            path: below.to_string_lossy().trim_end_matches('/').to_owned(),
            kernel: is_whole.then_some(KernelCgroup { id: metadata.ino(), level }),
        })
    }
}

/// Whether this process is in the initial cgroup namespace. In another one, cgroups of other containers
/// have no path.
pub(crate) fn in_initial_namespace() -> bool {
    fs::metadata("/proc/self/ns/cgroup")
        .is_ok_and(|namespace| namespace.ino() == FIRST_CGROUP_NAMESPACE)
}

/// Mount point of the first file system of type `cgroup2` that is mounted from its root.
fn mount_point(mountinfo: &[u8]) -> Option<PathBuf> {
    let is_hierarchy = |mount: &Mount<'_>| mount.kind == b"cgroup2" && mount.root == b"/";
    mounts::parse(mountinfo).find(is_hierarchy).map(|mount| mount.point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_among_mounts() {
        let text = b"20 1 0:9 / /mnt/caf\xe9 rw - nfs server:/cafe rw\n\
            30 1 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(text), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_point(b""), None);
    }

    #[test]
    fn a_cgroup_is_named_by_a_path_below_the_root() {
        let mount = tempfile::tempdir().unwrap();
        fs::create_dir_all(mount.path().join("web/php")).unwrap();
        fs::write(mount.path().join("cgroup.procs"), "").unwrap();
        let (directory, mount) = (File::open(mount.path()).unwrap(), mount.path().to_owned());
        let in_file_system = mount.join("web/php");
        let hierarchy = Hierarchy { mount, directory };
        for (path, below) in [("/", ""), ("web/php", "web/php"), ("/web/php/", "web/php")] {
            assert_eq!(hierarchy.resolve(Path::new(path)).unwrap().path, below);
        }
        assert_eq!(hierarchy.resolve(&in_file_system).unwrap().path, "web/php");
        for path in ["no/such/cgroup", ".", "..", "cgroup.procs"] {
            assert!(hierarchy.resolve(Path::new(path)).is_err(), "{path}");
        }
    }
}
