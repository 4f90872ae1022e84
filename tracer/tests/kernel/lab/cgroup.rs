//! Cgroups v2 for test processes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{eventually, unique_name};

/// A cgroup, which is removed on drop. Its children have to be dropped first.
pub(crate) struct Cgroup {
    folder: PathBuf,
    /// The path relative to the root.
    path: String,
}

impl Cgroup {
    /// Creates a cgroup with a unique name.
    pub(crate) fn new() -> Self {
        let root = root().expect("a cgroup v2 hierarchy");
        let name = unique_name();
        Self::make(root.join(&name), name)
    }

    /// Creates a child.
    pub(crate) fn below(&self, name: &str) -> Self {
        Self::make(self.folder.join(name), format!("{}/{name}", self.path))
    }

    fn make(folder: PathBuf, path: String) -> Self {
        fs::create_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        Self { folder, path }
    }

    /// Its path below the root, without a slash at either end.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Its directory.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Moves a process into it.
    pub(super) fn take_in(&self, pid: u32) {
        fs::write(self.folder.join("cgroup.procs"), pid.to_string()).expect("a process moves");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its processes are about to end.
        eventually("an empty cgroup", || fs::remove_dir(&self.folder).ok());
    }
}

/// The mount point of a cgroup v2 hierarchy.
pub(super) fn root() -> Option<PathBuf> {
    let folders = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
    folders.into_iter().find(|folder| folder.join("cgroup.controllers").exists())
}
