//! The owners of sockets: the process that called connect(), or the process that holds the
//! listener. The task that a packet interrupts is never the owner.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rustc_hash::FxBuildHasher;

use crate::trace::{
    event::Transition,
    ids::{Comm, NetnsId, NetnsInode, SockId},
    names::{CgroupName, Container, Names},
    recent::Recent,
    scan::SocketHolder,
    time::Nanos,
};

/// Maximum number of cgroups and of namespaces whose names are kept.
const NAMES_LIMIT: usize = 1 << 16;

/// Maximum number of sockets whose holders are kept.
const SOCKETS_LIMIT: usize = 1 << 20;

/// Maximum number of holders kept per socket.
const HOLDERS_LIMIT: usize = 1 << 14;

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

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    parent: u32,
    started: Nanos,
    /// Whether the process may hold the socket only until it calls execve().
    temporary: bool,
    pub(crate) label: Label,
}

impl Process {
    pub(crate) fn owner(&self) -> Owner {
        Owner { pid: Some(self.pid), label: self.label.clone() }
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

/// A child process younger than this may hold its parent's sockets only until it calls execve().
const YOUNG_AGE: Nanos = 100_000_000;

/// The processes that hold each socket, as of the last scan of all open files.
#[derive(Debug, Default)]
pub(crate) struct SocketOwners(HashMap<SockId, Holders, FxBuildHasher>);

/// The processes that hold a socket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holders {
    /// Time of the scan.
    pub(crate) seen: Nanos,
    pub(crate) processes: Vec<Process>,
    /// Whether some of the processes may hold the socket only until they call execve().
    pub(crate) temporary: bool,
}

impl Holders {
    /// Marks holders that may be temporary: a young child whose parent holds the socket too.
    fn mark_temporary(&mut self) {
        // Usually a single process holds a socket, and a scan finds many sockets.
        if self.processes.len() < 2 {
            return;
        }
        let parents: HashSet<_> = self.processes.iter().map(|process| process.pid).collect();
        for process in &mut self.processes {
            let is_young =
                process.started != 0 && self.seen.saturating_sub(process.started) < YOUNG_AGE;
            process.temporary = is_young && parents.contains(&process.parent);
            self.temporary |= process.temporary;
        }
    }
}

impl SocketOwners {
    pub(crate) fn new(holders: &[SocketHolder], names: &ProcessNames) -> Self {
        let mut owners = Self::default();
        let mut labels = HashMap::<_, Label, FxBuildHasher>::default();
        for holder in holders {
            if owners.0.len() >= SOCKETS_LIMIT && !owners.0.contains_key(&holder.sock) {
                continue;
            }
            let Holders { seen, processes, temporary } = owners
                .0
                .entry(holder.sock)
                .or_insert_with(|| Holders { seen: holder.time, ..Holders::default() });
            *seen = (*seen).min(holder.time);
            // The scan goes from process to process.
            let is_known = processes.last().is_some_and(|process| process.pid == holder.pid);
            // The list never counts as complete.
            *temporary |= !is_known && processes.len() >= HOLDERS_LIMIT;
            if processes.len() < HOLDERS_LIMIT && !is_known {
                let label = labels.entry(holder.pid).or_insert_with(|| Label {
                    name: text(&holder.comm),
                    container: names.container(holder.cgroup),
                });
                processes.push(Process {
                    pid: holder.pid,
                    parent: holder.parent,
                    started: holder.started,
                    temporary: false,
                    label: label.clone(),
                });
            }
        }
        owners.0.values_mut().for_each(Holders::mark_temporary);
        owners
    }

    /// The holders of the socket, if scanned after `created`: the kernel reuses addresses.
    pub(crate) fn of(&self, sock: SockId, created: Nanos) -> Option<&Holders> {
        self.0.get(&sock).filter(|holders| holders.seen >= created)
    }

    /// The process with this id; `None` if it does not hold the socket for more than a moment.
    pub(crate) fn holder(&self, sock: SockId, created: Nanos, pid: u32) -> Option<Arc<Owner>> {
        let mut lasting = self.of(sock, created)?.processes.iter().filter(|it| !it.temporary);
        lasting.find(|process| process.pid == pid).map(|process| Arc::new(process.owner()))
    }

    /// The owner of a socket; `None` if it is unknown or holders have different names.
    pub(crate) fn owner(&self, sock: SockId, created: Nanos) -> Option<Arc<Owner>> {
        owner_of(&self.of(sock, created)?.processes)
    }

    /// Ids of the processes that hold the socket.
    pub(crate) fn pids(&self, sock: SockId) -> Vec<u32> {
        let holders = self.0.get(&sock).into_iter().flat_map(|holders| &holders.processes);
        holders.map(|process| process.pid).collect()
    }

    pub(crate) fn socks(&self) -> impl Iterator<Item = SockId> {
        self.0.keys().copied()
    }
}

/// The holders that own a socket. A process that passed the socket to a child (socket activation by
/// a supervisor, a prefork server) does not own it while a child holds it permanently.
pub(crate) fn inheritors(holders: &[Process]) -> impl Iterator<Item = &Process> {
    let lasting = || holders.iter().filter(|process| !process.temporary);
    let of_others = lasting().filter(|process| process.parent != process.pid);
    let parents: HashSet<_> = of_others.map(|process| process.parent).collect();
    lasting().filter(move |process| !parents.contains(&process.pid))
}

/// The owner of a socket; `None` if holders have different names.
pub(crate) fn owner_of(holders: &[Process]) -> Option<Arc<Owner>> {
    let mut heirs = inheritors(holders);
    let first = heirs.next()?;
    let mut owner = first.owner();
    for other in heirs {
        if other.label != first.label {
            return None;
        }
        owner.pid = None;
    }
    Some(Arc::new(owner))
}

fn text(comm: &Comm) -> Arc<str> {
    Arc::from(String::from_utf8_lossy(comm.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Time of the scans in these tests.
    const SCAN: Nanos = 1_000_000_000;

    fn holders(list: &[(u32, u32, &str)]) -> Vec<SocketHolder> {
        list.iter()
            .map(|&(pid, parent, comm)| SocketHolder {
                time: SCAN,
                sock: 1,
                started: 1,
                pid,
                parent,
                comm: comm.into(),
                cgroup: 0,
            })
            .collect()
    }

    fn owner(list: &[(u32, u32, &str)]) -> Option<(Option<u32>, String)> {
        let owners = SocketOwners::new(&holders(list), &ProcessNames::default());
        owners.owner(1, 0).map(|owner| (owner.pid, owner.label.name.to_string()))
    }

    #[test]
    fn a_process_that_inherited_the_socket_owns_it() {
        let systemd = (1, 0, "systemd");
        assert_eq!(owner(&[systemd]), Some((Some(1), "systemd".into())));
        assert_eq!(owner(&[systemd, (70, 1, "web")]), Some((Some(70), "web".into())));
        let prefork = [(70, 1, "web"), (71, 70, "web"), (72, 70, "web")];
        assert_eq!(owner(&prefork), Some((None, "web".into())));
        assert_eq!(owner(&[(70, 1, "web"), (80, 1, "proxy")]), None);
        assert_eq!(owner(&[]), None);
    }

    #[test]
    fn a_later_socket_at_the_same_address_has_other_holders() {
        let owners = SocketOwners::new(&holders(&[(70, 1, "web")]), &ProcessNames::default());
        assert_eq!(owners.of(1, SCAN).map(|holders| holders.processes.len()), Some(1));
        assert!(owners.of(1, SCAN + 1).is_none() && owners.of(2, 0).is_none());
    }

    #[test]
    fn a_child_that_was_just_forked_is_not_the_owner() {
        let mut list = holders(&[(70, 1, "web"), (71, 70, "thread")]);
        list[1].started = SCAN - YOUNG_AGE + 1;
        let owners = SocketOwners::new(&list, &ProcessNames::default());
        assert_eq!(owners.owner(1, 0).and_then(|owner| owner.pid), Some(70));
        assert!(owners.of(1, 0).is_some_and(|holders| holders.temporary));
        // Without its parent, the child is the owner.
        let owners = SocketOwners::new(&list[1..], &ProcessNames::default());
        assert_eq!(owners.owner(1, 0).and_then(|owner| owner.pid), Some(71));
        assert!(owners.of(1, 0).is_some_and(|holders| !holders.temporary));
    }
}
