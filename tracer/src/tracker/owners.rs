//! Who owns a socket: the process that connects, or the one that holds the listener. Never the
//! task that a packet happened to interrupt.

use std::{collections::HashMap, sync::Arc};

use rustc_hash::FxBuildHasher;

use crate::trace::{
    event::Transition,
    ids::{Comm, NetnsId, SockId},
    names::{CgroupName, Container, Names},
    scan::SocketHolder,
    time::Nanos,
};

/// More cgroups than this are not told apart: containers of the rest are unknown.
const CGROUPS_LIMIT: usize = 1 << 16;

/// More sockets than this are not kept with their holders.
const SOCKETS_LIMIT: usize = 1 << 20;

/// More processes than this are not kept for a socket.
const HOLDERS_LIMIT: usize = 64;

/// The process that a socket belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its process id; `None` where several processes of that name hold the socket.
    pub pid: Option<u32>,
    /// What it is called.
    pub label: Label,
}

/// Who owns sockets, as rows tell them apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    /// The process's name: any characters, so to be escaped where it is shown.
    pub name: Arc<str>,
    /// The container that it runs in.
    pub container: Option<Arc<Container>>,
}

impl Owner {
    /// The process that made a socket's birth; its container is not known from that alone.
    pub fn at_birth(birth: &Transition) -> Option<Self> {
        let name = text(&birth.opening.as_ref()?.comm);
        Some(Self { pid: Some(birth.pid?), label: Label { name, container: None } })
    }
}

impl Label {
    /// It is the very one, which costs less to tell than whether it is equal.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
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
    born: Nanos,
    /// It may hold the socket only until it executes another program.
    passing: bool,
    pub(crate) label: Label,
}

impl Process {
    pub(crate) fn owner(&self) -> Owner {
        Owner { pid: Some(self.pid), label: self.label.clone() }
    }
}

/// Names of what the kernel numbers, as far as they are known.
#[derive(Debug, Default)]
pub(crate) struct ProcessNames {
    cgroups: HashMap<u64, CgroupEntry, FxBuildHasher>,
    namespaces: HashMap<NetnsId, Arc<str>, FxBuildHasher>,
    /// Processes that have made births of late: they make many, and all share what is said of them.
    recent: HashMap<u32, Arc<Owner>, FxBuildHasher>,
}

/// More are not kept: the next births begin anew.
const RECENT_LIMIT: usize = 1024;

#[derive(Debug)]
struct CgroupEntry {
    path: Arc<str>,
    container: Option<Arc<Container>>,
}

impl ProcessNames {
    pub(crate) fn learn(&mut self, names: &Names) {
        for (&id, CgroupName { path, container }) in &names.cgroups {
            if self.cgroups.len() < CGROUPS_LIMIT || self.cgroups.contains_key(&id) {
                let container = container.clone().map(Arc::new);
                self.cgroups.insert(id, CgroupEntry { path: path.as_str().into(), container });
            }
        }
        for (&netns, name) in &names.namespaces {
            if self.namespaces.len() < CGROUPS_LIMIT || self.namespaces.contains_key(&netns) {
                self.namespaces.insert(netns, name.as_str().into());
            }
        }
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

    /// The owner of a socket whose birth its process made.
    pub(crate) fn owner_at_birth(&mut self, birth: &Transition) -> Option<Arc<Owner>> {
        let (pid, opening) = (birth.pid?, birth.opening.as_ref()?);
        let container = self.container(opening.cgroup);
        if let Some(known) = self.recent.get(&pid)
            && known.label.container == container
            && known.label.name.as_bytes() == opening.comm.as_bytes()
        {
            return Some(known.clone());
        }
        let label = Label { name: text(&opening.comm), container };
        let owner = Arc::new(Owner { pid: Some(pid), label });
        if self.recent.len() >= RECENT_LIMIT {
            self.recent.clear();
        }
        self.recent.insert(pid, owner.clone());
        Some(owner)
    }
}

/// A child this young may hold what its parent holds only until it executes another program.
const YOUNG: Nanos = 100_000_000;

/// The processes that hold each socket, as the last look at all open files showed it.
#[derive(Debug, Default)]
pub(crate) struct SocketOwners(HashMap<SockId, Holders, FxBuildHasher>);

/// The processes that hold a socket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holders {
    /// When they were seen to.
    pub(crate) seen: Nanos,
    pub(crate) processes: Vec<Process>,
    /// It is not known whether all of them will go on to hold it.
    pub(crate) passing: bool,
}

impl Holders {
    /// Marks those that may go away at once: a young child does not count beside its parent,
    /// unless it acts.
    fn settle(&mut self) {
        let parents: Vec<_> = self.processes.iter().map(|process| process.pid).collect();
        for process in &mut self.processes {
            let is_young = process.born != 0 && self.seen.saturating_sub(process.born) < YOUNG;
            process.passing = is_young && parents.contains(&process.parent);
            self.passing |= process.passing;
        }
    }
}

impl SocketOwners {
    pub(crate) fn new(holders: &[SocketHolder], names: &ProcessNames) -> Self {
        let mut held = Self::default();
        for holder in holders {
            if held.0.len() >= SOCKETS_LIMIT && !held.0.contains_key(&holder.sock) {
                continue;
            }
            let Holders { seen, processes, .. } = held
                .0
                .entry(holder.sock)
                .or_insert_with(|| Holders { seen: holder.time, ..Holders::default() });
            *seen = (*seen).min(holder.time);
            let is_known = processes.iter().any(|process| process.pid == holder.pid);
            if processes.len() < HOLDERS_LIMIT && !is_known {
                processes.push(Process {
                    pid: holder.pid,
                    parent: holder.parent,
                    born: holder.born,
                    passing: false,
                    label: Label {
                        name: text(&holder.comm),
                        container: names.container(holder.cgroup),
                    },
                });
            }
        }
        held.0.values_mut().for_each(Holders::settle);
        held
    }

    /// Who held the socket, if it is the same since `born`: addresses are used anew.
    pub(crate) fn of(&self, sock: SockId, born: Nanos) -> Option<&Holders> {
        self.0.get(&sock).filter(|holders| holders.seen >= born)
    }

    /// The one owner of a socket that was there before the look, as far as it shows it.
    pub(crate) fn owner(&self, sock: SockId, born: Nanos) -> Option<Arc<Owner>> {
        owner_of(&self.of(sock, born)?.processes)
    }

    /// The processes that held the socket.
    pub(crate) fn pids(&self, sock: SockId) -> Vec<u32> {
        let holders = self.0.get(&sock).into_iter().flat_map(|holders| &holders.processes);
        holders.map(|process| process.pid).collect()
    }

    pub(crate) fn socks(&self) -> impl Iterator<Item = SockId> {
        self.0.keys().copied()
    }
}

/// Those of a socket's holders that own it. One that passed it on to a child of its own (a
/// supervisor's socket activation, a prefork server's parent) does not, so long as a child holds
/// it too, and not just in passing.
pub(crate) fn handed_down(holders: &[Process]) -> impl Iterator<Item = &Process> {
    let lasting = || holders.iter().filter(|process| !process.passing);
    let has_heir = move |process: &Process| {
        lasting().any(|other| other.parent == process.pid && other.pid != process.pid)
    };
    lasting().filter(move |process| !has_heir(process))
}

/// The one owner of a socket; `None` if there are several of different names.
pub(crate) fn owner_of(holders: &[Process]) -> Option<Arc<Owner>> {
    let mut heirs = handed_down(holders);
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

    /// When the looks of these tests are.
    const LOOK: Nanos = 1_000_000_000;

    fn holders(list: &[(u32, u32, &str)]) -> Vec<SocketHolder> {
        list.iter()
            .map(|&(pid, parent, comm)| SocketHolder {
                time: LOOK,
                sock: 1,
                born: 1,
                pid,
                parent,
                comm: comm.into(),
                cgroup: 0,
            })
            .collect()
    }

    fn owner(list: &[(u32, u32, &str)]) -> Option<(Option<u32>, String)> {
        let held = SocketOwners::new(&holders(list), &ProcessNames::default());
        held.owner(1, 0).map(|owner| (owner.pid, owner.label.name.to_string()))
    }

    #[test]
    fn who_was_given_the_socket_owns_it() {
        let systemd = (1, 0, "systemd");
        assert_eq!(owner(&[systemd]), Some((Some(1), "systemd".into())));
        assert_eq!(owner(&[systemd, (70, 1, "web")]), Some((Some(70), "web".into())));
        let prefork = [(70, 1, "web"), (71, 70, "web"), (72, 70, "web")];
        assert_eq!(owner(&prefork), Some((None, "web".into())));
        assert_eq!(owner(&[(70, 1, "web"), (80, 1, "proxy")]), None);
        assert_eq!(owner(&[]), None);
    }

    #[test]
    fn a_socket_born_later_has_other_holders() {
        let held = SocketOwners::new(&holders(&[(70, 1, "web")]), &ProcessNames::default());
        assert_eq!(held.of(1, LOOK).map(|holders| holders.processes.len()), Some(1));
        assert!(held.of(1, LOOK + 1).is_none() && held.of(2, 0).is_none());
    }

    #[test]
    fn a_child_that_was_just_made_is_not_the_owner_yet() {
        let mut list = holders(&[(70, 1, "web"), (71, 70, "thread")]);
        list[1].born = LOOK - YOUNG + 1;
        let held = SocketOwners::new(&list, &ProcessNames::default());
        assert_eq!(held.owner(1, 0).and_then(|owner| owner.pid), Some(70));
        assert!(held.of(1, 0).is_some_and(|holders| holders.passing));
        // Alone it is.
        let held = SocketOwners::new(&list[1..], &ProcessNames::default());
        assert_eq!(held.owner(1, 0).and_then(|owner| owner.pid), Some(71));
        assert!(held.of(1, 0).is_some_and(|holders| !holders.passing));
    }
}
