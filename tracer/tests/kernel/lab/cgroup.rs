//! Cgroups of version 2, for processes to be in.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use super::eventually;

/// A cgroup, empty at first. It goes away with this; what is below it must go before.
pub(crate) struct Cgroup {
    folder: PathBuf,
    /// Below the root, as the kernel tells it.
    path: String,
}

impl Cgroup {
    /// A cgroup with a name of its own. `None`, and a word about it, where there is no hierarchy.
    pub(crate) fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let Some(root) = root() else {
            eprintln!("SKIPPED: no cgroup hierarchy of version 2 is mounted below /sys/fs/cgroup");
            return None;
        };
        let name = format!("synfin-test-{}-{number}", process::id());
        Some(Self::make(root.join(&name), name))
    }

    /// One below this.
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

    /// Its folder.
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

fn root() -> Option<PathBuf> {
    let folders = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
    folders.into_iter().find(|folder| folder.join("cgroup.controllers").exists())
}
