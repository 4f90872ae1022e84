//! Sockets for which the user's filters or the role are undecided, and sockets that the filters
//! exclude.
//!
//! A record that does not decide the filters is held until another record of the same socket does.
//! Then all of its records are applied in order, or none. So counts are as if the kernel had
//! recorded only admitted sockets, and no connection loses its first transition. Likewise records of
//! a connection older than the trace are held until the first scan shows whether its port has a
//! listener.

use std::collections::{HashMap, HashSet};

use rustc_hash::FxBuildHasher;

use super::{
    connection::Origin,
    scan::{CONNECT_DELAY, MISSED_SCANS_LIMIT},
    time_wait_rows::{ByEndpoints, EndpointPairKey, key},
};
use crate::{
    tcp::{role::Role, transition::TransitionKind},
    trace::{
        event::{Input, Transition},
        filter::{Facts, Filter},
        ids::{NetnsId, NetnsInode, SockId},
        time::Nanos,
    },
};

/// Maximum number of sockets; beyond it undecided records are filtered.
const LIMIT: usize = 1 << 18;

/// Maximum number of records held per socket: few precede those that show its owner.
const RECORDS_LIMIT: usize = 16;

/// The filters, and the sockets that are not tracked because of them.
#[derive(Debug, Default)]
pub(super) struct UndecidedSockets {
    filters: Vec<Filter>,
    sockets: HashMap<SockId, UndecidedSocket, FxBuildHasher>,
    /// Sockets whose close is held, by the endpoints of the TIME_WAIT that may follow.
    closed: ByEndpoints<SockId>,
    /// Number of filtered records.
    filtered: u64,
    /// Number of held records.
    waiting: u64,
}

/// A socket that is not tracked.
#[derive(Debug)]
struct UndecidedSocket {
    netns: NetnsId,
    /// The origin of its connection, if no record shows its beginning.
    origin: Origin,
    /// Its role by what the last scan found.
    role: Role,
    /// Time of its last transition.
    seen: Nanos,
    /// Number of the last scan that found it.
    last_scan: u32,
    /// Number of consecutive scans that did not find it.
    missed_scans: u8,
    /// The held records; `None` if the filters exclude the socket.
    records: Option<Vec<Input>>,
}

/// The filters' decision about a socket that is not tracked.
pub(super) enum Decision<'a> {
    /// The socket is unknown.
    Unknown,
    /// The filters exclude the socket.
    Excluded,
    /// The filters or the role are undecided: the held records and the namespace of the socket.
    Waiting(&'a [Input], NetnsId),
}

impl<'a> Decision<'a> {
    /// The first transition among the held records.
    pub(super) fn first_transition(self) -> Option<&'a Transition> {
        self.transitions().next()
    }

    /// The last transition among the held records.
    pub(super) fn last_transition(self) -> Option<&'a Transition> {
        self.transitions().next_back()
    }

    fn transitions(self) -> impl DoubleEndedIterator<Item = &'a Transition> {
        let records = match self {
            Self::Waiting(records, _) => records,
            Self::Unknown | Self::Excluded => &[],
        };
        records.iter().filter_map(|record| match record {
            Input::Transition(transition) => Some(transition),
            _ => None,
        })
    }
}

impl UndecidedSockets {
    pub(super) fn new(filters: Vec<Filter>) -> Self {
        let filters = filters.into_iter().filter(|filter| !filter.is_empty()).collect();
        Self { filters, ..Self::default() }
    }

    /// Whether there are no filters.
    pub(super) fn admits_everything(&self) -> bool {
        self.filters.is_empty()
    }

    /// Whether no socket is held or excluded.
    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Whether another record of the socket can be held.
    pub(super) fn has_room(&self, sock: SockId) -> bool {
        match self.sockets.get(&sock) {
            Some(socket) => socket.records.as_ref().is_some_and(|it| it.len() < RECORDS_LIMIT),
            None => self.sockets.len() < LIMIT,
        }
    }

    /// Whether the filters can admit anything in this namespace.
    pub(super) fn may_match_netns(&self, netns: NetnsId) -> bool {
        self.filters.iter().all(|filter| filter.may_match_netns(netns))
    }

    /// Learns the inode number of a namespace, by which a filter may name it.
    pub(super) fn learn_inode(&mut self, netns: NetnsId, inode: NetnsInode) {
        for filter in &mut self.filters {
            if filter.namespaces.contains(&inode) && !filter.namespaces.contains(&netns) {
                filter.namespaces.push(netns);
            }
        }
    }

    /// Whether the filters admit a socket; `None` if these facts do not decide that.
    pub(super) fn judge(&self, facts: &Facts<'_>) -> Option<bool> {
        let mut answer = Some(true);
        for filter in &self.filters {
            match filter.judge(facts) {
                Some(true) => {}
                Some(false) => return Some(false),
                None => answer = None,
            }
        }
        answer
    }

    /// The decision about a socket that is not tracked.
    pub(super) fn decision(&self, sock: SockId) -> Decision<'_> {
        match self.sockets.get(&sock) {
            None => Decision::Unknown,
            Some(UndecidedSocket { records: None, .. }) => Decision::Excluded,
            Some(UndecidedSocket { records: Some(records), netns, .. }) => {
                Decision::Waiting(records, *netns)
            }
        }
    }

    /// The origin of the connection of a socket with held records, none of which shows its beginning.
    pub(super) fn origin(&self, sock: SockId) -> Origin {
        self.sockets.get(&sock).map_or(Origin::AfterLoss, |socket| socket.origin)
    }

    /// The role of a socket by what the last scan found.
    pub(super) fn role(&self, sock: SockId) -> Role {
        self.sockets.get(&sock).map_or(Role::Unknown, |socket| socket.role)
    }

    /// Learns the role of a socket with held records from what a scan found of it earlier.
    pub(super) fn learn_role(&mut self, sock: SockId, role: Role) {
        if role != Role::Unknown
            && let Some(socket) = self.sockets.get_mut(&sock)
        {
            socket.role = role;
        }
    }

    /// Counts a filtered record.
    pub(super) fn count_filtered(&mut self) {
        self.filtered += 1;
    }

    /// Filters the records of the socket from now on, including held ones.
    pub(super) fn exclude(&mut self, sock: SockId, netns: NetnsId, seen: Nanos) {
        self.forget(sock);
        if self.sockets.len() < LIMIT {
            self.sockets.insert(
                sock,
                UndecidedSocket {
                    netns,
                    origin: Origin::AfterLoss,
                    role: Role::Unknown,
                    seen,
                    last_scan: 0,
                    missed_scans: 0,
                    records: None,
                },
            );
        }
    }

    /// Holds a record until the filters and the role can be decided. `origin`: that of a connection
    /// without observed beginning.
    pub(super) fn hold(
        &mut self,
        sock: SockId,
        (netns, origin): (NetnsId, Origin),
        seen: Nanos,
        record: Input,
    ) {
        if self.sockets.len() >= LIMIT && !self.sockets.contains_key(&sock) {
            return self.count_filtered();
        }
        let socket = self.sockets.entry(sock).or_insert(UndecidedSocket {
            netns,
            origin,
            role: Role::Unknown,
            seen,
            last_scan: 0,
            missed_scans: 0,
            records: Some(Vec::new()),
        });
        if matches!(record, Input::Transition(_)) {
            socket.seen = seen;
        }
        match &mut socket.records {
            Some(records) if records.len() < RECORDS_LIMIT => {
                self.closed.extend(close_key(&record).map(|key| (key, sock)));
                records.push(record);
                self.waiting += 1;
            }
            Some(_) => {
                self.exclude(sock, netns, seen);
                self.count_filtered();
            }
            None => self.count_filtered(),
        }
    }

    /// Removes the socket and returns its held records, to be applied.
    pub(super) fn admit(&mut self, sock: SockId) -> Vec<Input> {
        let records =
            self.sockets.remove(&sock).and_then(|socket| socket.records).unwrap_or_default();
        self.waiting -= records.len() as u64;
        for key in records.iter().filter_map(close_key) {
            self.closed.remove(&key);
        }
        records
    }

    /// The socket with a held close that had these endpoints.
    pub(super) fn closed(&self, key: EndpointPairKey) -> Option<SockId> {
        self.closed.get(&key).copied()
    }

    /// Removes a socket that is gone or reused. Its held records count as filtered.
    pub(super) fn forget(&mut self, sock: SockId) {
        self.filtered += self.admit(sock).len() as u64;
    }

    /// Notes that a scan found the socket at this time, with what its role is then. Returns `false`
    /// if a later record is held, so that the finding is outdated but for the role.
    pub(super) fn on_scan(&mut self, sock: SockId, scan: u32, time: Nanos, role: Role) -> bool {
        self.sockets.get_mut(&sock).is_none_or(|socket| {
            socket.last_scan = scan;
            socket.missed_scans = 0;
            socket.role = role;
            socket.seen <= time
        })
    }

    /// Removes the sockets of a namespace that two complete scans did not find: the eBPF programs
    /// filtered the records of their closes.
    pub(super) fn forget_absent(&mut self, netns: NetnsId, scan: u32, started: Nanos) {
        let mut gone = Vec::new();
        for (&sock, socket) in &mut self.sockets {
            let is_old = socket.seen.saturating_add(CONNECT_DELAY) < started;
            if socket.netns == netns && socket.last_scan != scan && is_old {
                socket.missed_scans += 1;
                if socket.missed_scans >= MISSED_SCANS_LIMIT {
                    gone.push(sock);
                }
            }
        }
        for sock in gone {
            self.forget(sock);
        }
    }

    /// Removes the sockets of namespaces that are gone.
    pub(super) fn forget_namespaces(&mut self, gone: &HashSet<NetnsId>) {
        let of_gone = self.sockets.iter().filter(|(_, socket)| gone.contains(&socket.netns));
        let of_gone: Vec<_> = of_gone.map(|(&sock, _)| sock).collect();
        for sock in of_gone {
            self.forget(sock);
        }
    }

    /// Ends the input: held records count as filtered.
    pub(super) fn close(&mut self) {
        for socket in std::mem::take(&mut self.sockets).into_values() {
            self.filtered += socket.records.map_or(0, |records| records.len() as u64);
        }
        self.waiting = 0;
        self.closed.clear();
    }

    /// The sockets with held records, their namespaces and the times of their last transitions, in
    /// the order of these times.
    pub(super) fn waiting_socks(&self) -> Vec<(SockId, NetnsId, Nanos)> {
        let waiting = self.sockets.iter().filter(|(_, socket)| socket.records.is_some());
        let mut waiting: Vec<_> =
            waiting.map(|(&sock, socket)| (socket.seen, sock, socket.netns)).collect();
        waiting.sort_unstable();
        waiting.into_iter().map(|(seen, sock, netns)| (sock, netns, seen)).collect()
    }

    /// Number of filtered records so far.
    pub(super) fn filtered(&self) -> u64 {
        self.filtered
    }

    /// Number of records that are held now.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }
}

/// The endpoints of a close.
fn close_key(record: &Input) -> Option<EndpointPairKey> {
    match record {
        Input::Transition(last)
            if TransitionKind::of(last.old, last.new) == TransitionKind::Close =>
        {
            Some(key(last.netns, last.into()))
        }
        _ => None,
    }
}
