//! The processes that hold sockets, as of the last scan of all open files. A busy host has a million
//! sockets and few processes, so sockets with the same holders share them.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use rustc_hash::FxBuildHasher;

use super::owners::{Label, Owner, ProcessNames, text};
use crate::trace::{
    ids::SockId,
    scan::{SocketHolder, SocketHolders},
    time::Nanos,
};

/// Maximum number of sockets whose holders are kept.
const SOCKETS_LIMIT: usize = 1 << 20;

/// Maximum number of holders kept per socket.
const HOLDERS_LIMIT: usize = 1 << 14;

/// A child process younger than this may hold its parent's sockets only until it calls execve().
const YOUNG_AGE: Nanos = 100_000_000;

/// The precision of [`Held::seen_us`].
const MICROSECOND: Nanos = 1_000;

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    parent: u32,
    /// Whether it was found within [`YOUNG_AGE`] of its start.
    is_young: bool,
    /// Whether the process may hold the socket only until it calls execve().
    temporary: bool,
    /// The process as an owner.
    pub(crate) owner: Arc<Owner>,
}

impl Process {
    pub(crate) fn label(&self) -> &Label {
        &self.owner.label
    }
}

/// The processes that hold each socket.
#[derive(Debug, Default)]
pub(crate) struct SocketOwners {
    by_sock: HashMap<SockId, Held, FxBuildHasher>,
    holders: Vec<Holders>,
    /// Time of the first finding.
    begun: Nanos,
}

/// What is kept of each socket.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// The index of its holders.
    holders: u32,
    /// When it was found, in microseconds since the first finding, rounded down.
    seen_us: u32,
}

/// The processes that hold some sockets.
#[derive(Debug)]
pub(crate) struct Holders {
    pub(crate) processes: Vec<Process>,
    /// Whether they are not certain: some may hold the socket only until they call execve(), or there
    /// may be more.
    pub(crate) are_uncertain: bool,
    /// Their owner; `None` if they have different names.
    pub(crate) owner: Option<Arc<Owner>>,
}

impl Holders {
    fn new(mut processes: Vec<Process>) -> Self {
        mark_temporary(&mut processes);
        let are_uncertain =
            processes.len() >= HOLDERS_LIMIT || processes.iter().any(|process| process.temporary);
        let owner = owner_of(&processes);
        Self { processes, are_uncertain, owner }
    }
}

/// Marks holders that may be temporary: a young child whose parent holds the socket too.
fn mark_temporary(processes: &mut [Process]) {
    // Usually a single process holds a socket.
    if processes.len() < 2 {
        return;
    }
    let parents: HashSet<_> = processes.iter().map(|process| process.pid).collect();
    for process in processes {
        process.temporary = process.is_young && parents.contains(&process.parent);
    }
}

/// The lists of processes while they grow: the scan goes from process to process, and adds each to the
/// list of every socket that it holds. Lists with the same beginning share it.
#[derive(Default)]
struct Lists {
    ends: Vec<End>,
    /// The end of the list that continues one with a process.
    longer: HashMap<(Option<u32>, u32), u32, FxBuildHasher>,
}

/// The end of a list.
struct End {
    /// The index of the end before it.
    before: Option<u32>,
    /// The index of the process.
    process: u32,
    len: usize,
}

impl Lists {
    /// The end of the list that continues the one of `before` with a process. A process can hold a socket
    /// by several descriptors.
    fn continued(&mut self, before: Option<u32>, process: u32) -> u32 {
        let last = before.map(|before| &self.ends[before as usize]);
        let len = last.map_or(0, |last| last.len);
        if let Some(before) = before
            && (len >= HOLDERS_LIMIT || last.is_some_and(|last| last.process == process))
        {
            return before;
        }
        *self
            .longer
            .entry((before, process))
            .or_insert_with(|| push(&mut self.ends, End { before, process, len: len + 1 }))
    }

    /// The processes of a list, in its order.
    fn processes(&self, end: u32, all: &[Process]) -> Vec<Process> {
        let at = |end: u32| &self.ends[end as usize];
        let ends = std::iter::successors(Some(at(end)), |it| it.before.map(at));
        let mut found: Vec<_> = ends.map(|it| all[it.process as usize].clone()).collect();
        found.reverse();
        found
    }
}

impl SocketOwners {
    pub(crate) fn new(found: &SocketHolders, names: &ProcessNames) -> Self {
        let begun = found.iter().map(|holder| holder.time).min().unwrap_or(0);
        let mut by_sock = HashMap::<SockId, Held, FxBuildHasher>::default();
        let mut processes = Vec::new();
        let mut indices = HashMap::<u32, u32, FxBuildHasher>::default();
        let mut lists = Lists::default();
        for holder in found.iter() {
            let process = *indices
                .entry(holder.pid)
                .or_insert_with(|| push(&mut processes, process(&holder, names)));
            let us = holder.time.saturating_sub(begun) / MICROSECOND;
            let seen_us = u32::try_from(us).unwrap_or(u32::MAX);
            let is_full = by_sock.len() >= SOCKETS_LIMIT;
            match by_sock.entry(holder.sock) {
                Entry::Vacant(new) if !is_full => {
                    new.insert(Held { holders: lists.continued(None, process), seen_us });
                }
                Entry::Vacant(_) => {}
                Entry::Occupied(mut known) => {
                    let held = known.get_mut();
                    held.holders = lists.continued(Some(held.holders), process);
                    held.seen_us = held.seen_us.min(seen_us);
                }
            }
        }
        // Sockets with the same list share it.
        let mut holders = Vec::new();
        let mut places = vec![None; lists.ends.len()];
        for held in by_sock.values_mut() {
            let end = held.holders;
            held.holders = *places[end as usize].get_or_insert_with(|| {
                push(&mut holders, Holders::new(lists.processes(end, &processes)))
            });
        }
        Self { by_sock, holders, begun }
    }

    /// The holders of the socket and when it was found, if scanned after `created`: the kernel reuses
    /// addresses.
    pub(crate) fn of(&self, sock: SockId, created: Nanos) -> Option<(&Holders, Nanos)> {
        let held = self.by_sock.get(&sock)?;
        let seen = held.seen(self.begun);
        (seen >= created).then(|| (&self.holders[held.holders as usize], seen))
    }

    /// The process with this id; `None` if it does not hold the socket for more than a moment.
    pub(crate) fn holder(&self, sock: SockId, created: Nanos, pid: u32) -> Option<Arc<Owner>> {
        let (holders, _) = self.of(sock, created)?;
        let mut lasting = holders.processes.iter().filter(|process| !process.temporary);
        lasting.find(|process| process.pid == pid).map(|process| process.owner.clone())
    }

    /// The owner of a socket; `None` if it is unknown or holders have different names.
    pub(crate) fn owner(&self, sock: SockId, created: Nanos) -> Option<Arc<Owner>> {
        self.of(sock, created)?.0.owner.clone()
    }

    /// Ids of the processes that hold the socket.
    pub(crate) fn pids(&self, sock: SockId) -> Vec<u32> {
        let holders = self.of(sock, 0).into_iter().flat_map(|(holders, _)| &holders.processes);
        holders.map(|process| process.pid).collect()
    }

    pub(crate) fn socks(&self) -> impl Iterator<Item = SockId> {
        self.by_sock.keys().copied()
    }
}

impl Held {
    fn seen(self, begun: Nanos) -> Nanos {
        begun.saturating_add(Nanos::from(self.seen_us) * MICROSECOND)
    }
}

/// Adds an element, and returns its index.
#[expect(clippy::cast_possible_truncation, reason = "each element has a record of one frame")]
fn push<T>(to: &mut Vec<T>, element: T) -> u32 {
    to.push(element);
    (to.len() - 1) as u32
}

fn process(holder: &SocketHolder, names: &ProcessNames) -> Process {
    let &SocketHolder { pid, parent, started, time, .. } = holder;
    let label = Label { name: text(&holder.comm), container: names.container(holder.cgroup) };
    let owner = Arc::new(Owner { pid: Some(pid), label });
    let is_young = started != 0 && time.saturating_sub(started) < YOUNG_AGE;
    Process { pid, parent, is_young, temporary: false, owner }
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
fn owner_of(holders: &[Process]) -> Option<Arc<Owner>> {
    let mut heirs = inheritors(holders);
    let first = heirs.next()?;
    let mut is_only = true;
    for other in heirs {
        if other.label() != first.label() {
            return None;
        }
        is_only = false;
    }
    if is_only {
        return Some(first.owner.clone());
    }
    Some(Arc::new(Owner { pid: None, label: first.label().clone() }))
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

    fn scanned(holders: &[SocketHolder]) -> SocketOwners {
        SocketOwners::new(&holders.iter().cloned().collect(), &ProcessNames::default())
    }

    fn owner(list: &[(u32, u32, &str)]) -> Option<(Option<u32>, String)> {
        let owners = scanned(&holders(list));
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
    fn sockets_with_the_same_holders_share_them() {
        let holder = |time, sock, pid| SocketHolder {
            time,
            sock,
            started: 1,
            pid,
            parent: 1,
            comm: "web".into(),
            cgroup: 0,
        };
        let us = 1_000;
        let found = [
            holder(SCAN + us, 10, 70),
            holder(SCAN + 2 * us, 11, 70),
            // Another descriptor of the same socket.
            holder(SCAN + 3 * us, 10, 70),
            holder(SCAN, 12, 70),
            holder(SCAN + 4 * us, 10, 71),
            holder(SCAN + 5 * us, 11, 71),
        ];
        let owners = scanned(&found);
        assert_eq!(
            [10, 11, 12].map(|sock| owners.pids(sock)),
            [vec![70, 71], vec![70, 71], vec![70]]
        );
        assert_eq!(owners.holders.len(), 2);
        let seen = [10, 11, 12].map(|sock| owners.of(sock, 0).map(|(_, seen)| seen));
        assert_eq!(seen, [SCAN + us, SCAN + 2 * us, SCAN].map(Some));
        assert_eq!(owners.owner(10, 0).map(|owner| owner.pid), Some(None));
    }

    #[test]
    fn more_holders_than_are_kept_are_not_certain() {
        let list: Vec<_> = (2..).take(HOLDERS_LIMIT + 1).map(|pid| (pid, 1, "web")).collect();
        let owners = scanned(&holders(&list));
        let (kept, _) = owners.of(1, 0).expect("holders");
        assert_eq!((kept.processes.len(), kept.are_uncertain), (HOLDERS_LIMIT, true));
    }

    #[test]
    fn a_later_socket_at_the_same_address_has_other_holders() {
        let owners = scanned(&holders(&[(70, 1, "web")]));
        assert_eq!(owners.of(1, SCAN).map(|(holders, _)| holders.processes.len()), Some(1));
        assert!(owners.of(1, SCAN + 1).is_none() && owners.of(2, 0).is_none());
    }

    #[test]
    fn a_child_that_was_just_forked_is_not_the_owner() {
        let mut list = holders(&[(70, 1, "web"), (71, 70, "thread")]);
        list[1].started = SCAN - YOUNG_AGE + 1;
        let owners = scanned(&list);
        assert_eq!(owners.owner(1, 0).and_then(|owner| owner.pid), Some(70));
        assert!(owners.of(1, 0).is_some_and(|(holders, _)| holders.are_uncertain));
        // Without its parent, the child is the owner.
        let owners = scanned(&list[1..]);
        assert_eq!(owners.owner(1, 0).and_then(|owner| owner.pid), Some(71));
        assert!(owners.of(1, 0).is_some_and(|(holders, _)| !holders.are_uncertain));
    }
}
