//! The owners of sockets: the process that called connect(), or the process that holds the
//! listener. The task that a packet interrupts is never the owner.

use std::sync::Arc;

use crate::trace::{
    event::Transition,
    ids::{Comm, NetnsId, NetnsInode},
    names::{CgroupName, Container, Names},
    recent::Recent,
};

/// Maximum number of cgroups and of namespaces whose names are kept.
const NAMES_LIMIT: usize = 1 << 16;

/// The process that owns a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The process id; `None` if several processes of that name hold the socket.
    pub pid: Option<u32>,
    /// The name and container of the process.
    pub label: Label,
}

/// A process name and container, by which rows distinguish owners.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    /// The process's name (`comm`). It can contain any characters and must be escaped for display.
    pub name: Arc<str>,
    /// The container in which the process runs; `None` if none is known.
    pub container: Option<Arc<Container>>,
}

impl Owner {
    /// The process that made a socket's first transition, without its container. `None` if the
    /// record has no process.
    pub fn by_opening(first: &Transition) -> Option<Self> {
        let name = text(&first.opening.as_ref()?.comm);
        Some(Self { pid: Some(first.pid?), label: Label { name, container: None } })
    }
}

impl Label {
    /// Whether both share their strings, which is cheaper than a comparison of the strings.
    pub(crate) fn shares_strings_with(&self, other: &Self) -> bool {
        let container = match (&self.container, &other.container) {
            (Some(container), Some(other)) => Arc::ptr_eq(container, other),
            (container, other) => container.is_none() && other.is_none(),
        };
        container && Arc::ptr_eq(&self.name, &other.name)
    }
}

/// Known names of cgroups, namespaces and processes.
#[derive(Debug)]
pub(crate) struct ProcessNames {
    cgroups: Recent<u64, CgroupEntry>,
    namespaces: Recent<NetnsId, Arc<str>>,
    inodes: Recent<NetnsId, NetnsInode>,
    /// The namespace whose inode number was learnt last, usually that of the next record too.
    latest: (NetnsId, NetnsInode),
    /// Processes that opened connections recently. Connections of one process share one `Owner`.
    processes: Recent<u32, Arc<Owner>>,
}

/// Maximum number of processes whose `Owner` is shared.
const PROCESSES_LIMIT: usize = 2048;

#[derive(Debug)]
struct CgroupEntry {
    path: Arc<str>,
    container: Option<Arc<Container>>,
}

impl Default for ProcessNames {
    fn default() -> Self {
        Self {
            cgroups: Recent::new(NAMES_LIMIT),
            namespaces: Recent::new(NAMES_LIMIT),
            inodes: Recent::new(NAMES_LIMIT),
            latest: (NetnsId::MAX, NetnsInode::MAX),
            processes: Recent::new(PROCESSES_LIMIT),
        }
    }
}

impl ProcessNames {
    pub(crate) fn learn(&mut self, names: &Names) {
        for (&id, CgroupName { path, container }) in &names.cgroups {
            let container = container.clone().map(Arc::new);
            self.cgroups.insert(id, CgroupEntry { path: path.as_str().into(), container });
        }
        for (&netns, name) in &names.namespaces {
            self.namespaces.insert(netns, name.as_str().into());
        }
        for (&netns, &inode) in &names.inodes {
            self.inodes.insert(netns, inode);
        }
    }

    /// Learns the inode number of a namespace. Returns whether it was unknown.
    pub(crate) fn learn_inode(&mut self, netns: NetnsId, inode: NetnsInode) -> bool {
        if inode == 0 || self.latest == (netns, inode) {
            return false;
        }
        self.latest = (netns, inode);
        netns != inode
            && self.inodes.get(&netns) != Some(&inode)
            && self.inodes.insert(netns, inode)
    }

    /// The inode number of a namespace, for people.
    pub(crate) fn inode(&self, netns: NetnsId) -> NetnsInode {
        if self.latest.0 == netns {
            return self.latest.1;
        }
        self.inodes.get(&netns).copied().unwrap_or(netns)
    }

    /// Number of names that were forgotten because there are too many.
    pub(crate) fn forgotten(&self) -> u64 {
        self.cgroups.forgotten() + self.namespaces.forgotten()
    }

    pub(crate) fn cgroup_path(&self, id: u64) -> Option<&Arc<str>> {
        self.cgroups.get(&id).map(|cgroup| &cgroup.path)
    }

    pub(crate) fn container(&self, cgroup: u64) -> Option<Arc<Container>> {
        self.cgroups.get(&cgroup)?.container.clone()
    }

    pub(crate) fn namespace(&self, netns: NetnsId) -> Option<&Arc<str>> {
        self.namespaces.get(&netns)
    }

    /// The owner of a socket, from its first transition.
    pub(crate) fn owner_by_opening(&mut self, first: &Transition) -> Option<Arc<Owner>> {
        let (pid, opening) = (first.pid?, first.opening.as_ref()?);
        let container = self.container(opening.cgroup);
        if let Some(known) = self.processes.get(&pid)
            && known.label.container == container
            && known.label.name.as_bytes() == opening.comm.as_bytes()
        {
            return Some(known.clone());
        }
        let label = Label { name: text(&opening.comm), container };
        let owner = Arc::new(Owner { pid: Some(pid), label });
        self.processes.insert(pid, owner.clone());
        Some(owner)
    }
}

pub(super) fn text(comm: &Comm) -> Arc<str> {
    Arc::from(String::from_utf8_lossy(comm.as_bytes()))
}
