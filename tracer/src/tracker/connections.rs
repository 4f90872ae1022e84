//! The bounded table of living connections.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;
use synfin_common::state::TcpState;

use super::{
    classify::{CloseEvidence, Resets},
    endpoints::Endpoints,
    listeners::Listeners,
    owners::Owner,
    row::Row,
    row_key::RowId,
};
use crate::{
    tcp::{handshake::Handshake, role::Role, state},
    trace::{
        event::{TimeWaitKind, Transition},
        ids::{NetnsId, SockId},
        time::Nanos,
    },
};

/// How we came to know a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Its birth was seen.
    Observed,
    /// It was there when its namespace was scanned for the first time.
    Preexisting,
    /// Its birth was lost.
    AfterLoss,
}

/// A [`SocketAddr`] without what TCP has no use for: of lives there may be very many, and they are
/// moved about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    ip: IpAddr,
    port: u16,
}

impl From<SocketAddr> for Endpoint {
    fn from(end: SocketAddr) -> Self {
        Self { ip: end.ip(), port: end.port() }
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(Endpoint { ip, port }: Endpoint) -> Self {
        Self::new(ip, port)
    }
}

/// A living connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Network namespace.
    pub netns: NetnsId,
    /// Which side we are.
    pub role: Role,
    /// The role is a guess: nothing shows it.
    pub role_assumed: bool,
    /// How we came to know it.
    pub origin: Origin,
    /// Its state.
    pub state: TcpState,
    pub(super) local: Endpoint,
    pub(super) remote: Endpoint,
    /// When it was born, or first seen.
    pub first_seen: Nanos,
    /// When its last record was made.
    pub last_transition: Nanos,
    /// When it reached ESTABLISHED, if we saw that.
    pub established_at: Option<Nanos>,
    /// Its handshake, once through.
    pub handshake: Option<Handshake>,
    /// The owning process, if known.
    pub owner: Option<Arc<Owner>>,
    /// It counts as open, no longer as pending.
    pub(super) established: bool,
    /// Somebody acts on it of whom nothing is known.
    pub(super) owner_ambiguous: bool,
    pub(super) row: RowId,
    pub(super) evidence: ConnectionEvidence,
    pub(super) scan: ScanRecord,
}

/// What a connection has shown that is needed later to measure or classify it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionEvidence {
    /// Its listener has TCP_DEFER_ACCEPT.
    pub(super) deferred_accept: bool,
    /// accept() has taken it.
    pub(super) accepted: bool,
    pub(super) resets: Resets,
    /// What it is about to leave behind, if that was seen.
    pub(super) time_wait_kind: Option<TimeWaitKind>,
}

/// What scans have shown of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ScanRecord {
    /// The last scan that met it.
    pub(super) last_scan: u32,
    /// How many scans in a row missed it.
    pub(super) missed_scans: u8,
    /// A scan met it in its state: it may have been in that for longer.
    pub(super) state_since_is_lower_bound: bool,
}

impl ScanRecord {
    /// A scan met it.
    pub(super) fn on_scan(&mut self, scan: u32) {
        self.last_scan = scan;
        self.missed_scans = 0;
    }
}

impl Connection {
    /// One that is in this state at this time, about which nothing else is known.
    pub(super) fn new(
        netns: NetnsId,
        role: Role,
        origin: Origin,
        state: TcpState,
        Endpoints { local, remote }: Endpoints,
        time: Nanos,
        row: RowId,
    ) -> Self {
        Self {
            netns,
            role,
            role_assumed: false,
            origin,
            state,
            local: local.into(),
            remote: remote.into(),
            first_seen: time,
            last_transition: time,
            established_at: None,
            handshake: None,
            owner: None,
            established: false,
            owner_ambiguous: false,
            row,
            evidence: ConnectionEvidence::default(),
            scan: ScanRecord::default(),
        }
    }

    /// Our end.
    pub fn local(&self) -> SocketAddr {
        self.local.into()
    }

    /// The peer's end.
    pub fn remote(&self) -> SocketAddr {
        self.remote.into()
    }

    pub(super) fn endpoints(&self) -> Endpoints {
        Endpoints { local: self.local(), remote: self.remote() }
    }

    /// The listener's port for a server, the remote port for a client.
    pub fn service_port(&self) -> u16 {
        self.role.service_port(self.local(), self.remote())
    }

    /// What it adds to the evidence of why it ends.
    pub(super) fn close_evidence(&self) -> CloseEvidence {
        let &Self { role, established, evidence, .. } = self;
        let ConnectionEvidence { resets, time_wait_kind, .. } = evidence;
        CloseEvidence { role, established, resets, time_wait_kind }
    }

    /// Whether a socket at this connection's address, with these ends, can be this connection's: what is not
    /// known fits anything. If not, the address is used anew. `is_young`: it has left the state that
    /// it was born in only now.
    pub(super) fn fits(
        &self,
        netns: NetnsId,
        Endpoints { local, remote }: Endpoints,
        is_young: bool,
    ) -> bool {
        let known = |port: u16| port != 0;
        // A child is born with its listener's port, and behind TPROXY gets its own then.
        let is_child = self.role == Role::Server && is_young;
        let is_local = is_child || self.local.port == local.port();
        let is_remote = self.remote == Endpoint::from(remote);
        self.netns == netns
            && (is_local || !known(self.local.port) || !known(local.port()))
            && (is_remote || !known(self.remote.port) || !known(remote.port()))
    }

    /// Enters a state, and books it. If the handshake is through by that, `handshake` tells how
    /// it went; returns whether it is.
    pub(super) fn enter(
        &mut self,
        state: TcpState,
        row: &mut Row,
        handshake: impl FnOnce(&Self) -> Handshake,
    ) -> bool {
        row.gauges.leave(self.state);
        row.gauges.enter(state);
        self.state = state;
        let gets_through = !self.established && !state::is_pending(state);
        if gets_through {
            let handshake = handshake(self);
            row.gauges.pending -= 1;
            row.gauges.open += 1;
            row.interval.established += 1;
            row.interval.handshake(&handshake);
            self.established = true;
            self.handshake = Some(handshake);
        }
        gets_through
    }

    /// Takes note of which process it is that acts on a server's socket, of those that hold the
    /// listener; and of the owner of a listener that was found only after the birth.
    pub(super) fn learn_owner(&mut self, transition: &Transition, listeners: &Listeners) {
        if self.role == Role::Client {
            return;
        }
        let (netns, local) = (self.netns, self.local());
        let acting = transition.pid.and_then(|pid| listeners.holder(netns, local, pid));
        if acting.is_some() {
            self.owner = acting;
            return;
        }
        if self.owner.is_none() && !self.owner_ambiguous {
            self.owner = listeners.owner(netns, local).cloned();
        }
        // Somebody else acts, and nobody has looked since this was born: the listener may have
        // been handed on. (If somebody has, it is a process for each connection.)
        let is_other = |pid| self.owner.as_ref().is_some_and(|owner| owner.pid != Some(pid));
        if transition.pid.is_some_and(is_other)
            && listeners.owners_checked(netns, local) < self.first_seen
        {
            self.owner = None;
            self.owner_ambiguous = true;
        }
    }

    /// Takes over what its birth did not know yet of its ends.
    pub(super) fn learn_endpoints(&mut self, Endpoints { local, remote }: Endpoints) {
        if self.local.port == 0 || self.local.ip.is_unspecified() {
            self.local = local.into();
        }
        if self.remote.port == 0 {
            self.remote = remote.into();
        }
    }

    /// Whether its age is a lower bound.
    pub fn is_adopted(&self) -> bool {
        self.origin != Origin::Observed
    }
}

/// All living connections, by socket. When it is full, one of those that were quiet for longest
/// makes room (of a sample: exact order would cost more than it is worth).
pub(crate) struct Connections {
    table: IndexMap<SockId, Connection, FxBuildHasher>,
    limit: usize,
    evicted: u64,
    /// State of the sampling's generator; the tracker must be a function of its input.
    random: u64,
}

const EVICTION_SAMPLE: usize = 8;

/// A place in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot(usize);

impl Connections {
    pub(crate) fn new(limit: usize) -> Self {
        Self { table: IndexMap::default(), limit: limit.max(1), evicted: 0, random: 1 }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// One more takes another's place.
    pub(crate) fn is_full(&self) -> bool {
        self.table.len() >= self.limit
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(crate) fn get(&self, sock: SockId) -> Option<&Connection> {
        self.table.get(&sock)
    }

    pub(crate) fn get_mut(&mut self, sock: SockId) -> Option<&mut Connection> {
        self.table.get_mut(&sock)
    }

    /// Adds one whose socket has none, and returns what had to make room for it.
    pub(crate) fn insert(&mut self, sock: SockId, connection: Connection) -> Option<Connection> {
        let victim = self.is_full().then(|| self.evict()).flatten();
        self.table.insert(sock, connection);
        victim
    }

    /// Where one is until another comes or goes, to find it only once.
    pub(crate) fn place(&self, sock: SockId) -> Option<Slot> {
        self.table.get_index_of(&sock).map(Slot)
    }

    pub(crate) fn at(&mut self, Slot(index): Slot) -> &mut Connection {
        &mut self.table[index]
    }

    pub(crate) fn remove_at(&mut self, Slot(index): Slot) -> Option<Connection> {
        self.table.swap_remove_index(index).map(|(_, connection)| connection)
    }

    pub(crate) fn remove(&mut self, sock: SockId) -> Option<Connection> {
        self.table.swap_remove(&sock)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (SockId, &Connection)> {
        self.table.iter().map(|(&sock, connection)| (sock, connection))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (SockId, &mut Connection)> {
        self.table.iter_mut().map(|(&sock, connection)| (sock, connection))
    }

    fn evict(&mut self) -> Option<Connection> {
        let len = self.table.len();
        let sample: [usize; EVICTION_SAMPLE] =
            std::array::from_fn(|_| self.next_random() as usize % len);
        let victim = sample.into_iter().min_by_key(|&index| self.table[index].last_transition)?;
        self.evicted += 1;
        self.table.swap_remove_index(victim).map(|(_, connection)| connection)
    }

    /// Xorshift: good enough to sample with.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
