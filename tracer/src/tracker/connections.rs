//! The bounded table of open connections.

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
    owners::Owner,
    row::Row,
    row_key::RowId,
    served::Served,
    subflows::Subflows,
};
use crate::{
    tcp::{close_reason::CloseReason, handshake::Handshake, role::Role, state},
    trace::{
        event::TimeWaitKind,
        ids::{ListenerId, MptcpId, NetnsId, NetnsInode, SockId},
        scan::EphemeralPorts,
        time::Nanos,
    },
};

/// How a connection became known to the tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The first transition was observed.
    Observed,
    /// The connection existed before the first scan of its namespace.
    Preexisting,
    /// The connection was found after that scan, so the record of its first transition was lost.
    AfterLoss,
}

/// A [`SocketAddr`] without IPv6 flow label and scope id, to save memory per connection.
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

/// An open connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The network namespace.
    pub netns: NetnsId,
    /// Its inode number.
    pub netns_inode: NetnsInode,
    /// The side that this host is.
    pub role: Role,
    /// How the connection became known.
    pub origin: Origin,
    /// The TCP state.
    pub state: TcpState,
    pub(super) local: Endpoint,
    pub(super) remote: Endpoint,
    /// Time of the first transition; if it was not observed, the earliest time at which the connection
    /// is known to have existed (CLOCK_MONOTONIC, nanoseconds).
    pub first_seen: Nanos,
    /// Time of the latest transition; if it was not observed, the earliest time at which the connection
    /// is known to have been in its state.
    pub last_transition: Nanos,
    /// Time of the transition to ESTABLISHED; `None` if that was not observed.
    pub established_at: Option<Nanos>,
    /// The handshake; `None` until it is complete.
    pub handshake: Option<Handshake>,
    /// The owning process; `None` if unknown.
    pub owner: Option<Arc<Owner>>,
    /// Whether it is a subflow of an MPTCP connection. False until a server's handshake is complete.
    pub is_subflow: bool,
    /// The MPTCP connection of a subflow; `None` if unknown.
    pub mptcp: Option<MptcpId>,
    /// The listener that created a server's connection; `None` if unknown.
    pub(super) listener: Option<ListenerId>,
    /// The port of that listener; 0 if unknown. Behind a transparent proxy (TPROXY, `sk_lookup`) the
    /// connection has another port.
    pub(super) listener_port: u16,
    /// Whether the connection counts as open, no longer as pending.
    pub(super) established: bool,
    /// Whether another process than the known owner acts on the socket: the owner is uncertain.
    pub(super) owner_ambiguous: bool,
    /// Whether a scan of open files has found that the owner holds the socket.
    pub(super) owner_holds: bool,
    /// Whether a client's port was taken by bind(), not chosen by connect(); `None` if unknown.
    pub(super) is_bound: Option<bool>,
    /// The ports that connect() may choose for this socket (`IP_LOCAL_PORT_RANGE`), 0 as either end if
    /// the namespace decides it; `None` if it decides both.
    pub(super) port_range: Option<(u16, u16)>,
    pub(super) row: RowId,
    pub(super) evidence: ConnectionEvidence,
    pub(super) scan: ScanRecord,
}

/// Evidence from the history of a connection that is needed to measure or classify it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionEvidence {
    /// Whether TCP_DEFER_ACCEPT was set at the first transition.
    pub(super) deferred_accept: bool,
    /// Whether a SYN cookie may have begun it.
    pub(super) may_be_cookie: bool,
    /// Whether accept() has returned the connection.
    pub(super) accepted: bool,
    /// Whether it is a subflow that joined a known MPTCP connection (MP_JOIN).
    pub(super) has_joined: bool,
    /// Why another subflow of its MPTCP connection was reset just before the close; `None` if none was.
    pub(super) sibling_reset: Option<CloseReason>,
    pub(super) resets: Resets,
    /// The TIME_WAIT kind (`tcp_minisocks.c:tcp_time_wait`); `None` without a record of it.
    pub(super) time_wait_kind: Option<TimeWaitKind>,
}

/// The results of scans for a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ScanRecord {
    /// Number of the last scan that found the connection.
    pub(super) last_scan: u32,
    /// Number of consecutive scans that did not find the connection.
    pub(super) missed_scans: u8,
    /// Whether the connection was found in its state: the time in that state is a lower bound.
    pub(super) state_since_is_lower_bound: bool,
    /// When the tracker learned of a connection whose first transition was not observed; 0 of others.
    pub(super) adopted_at: Nanos,
    /// Number of the last scan of all open files that found a process holding the socket.
    pub(super) held_in: u32,
    /// Milliseconds since the last segment was received, when that scan found the connection; `None` if
    /// unknown.
    pub(super) idle_ms: Option<u32>,
}

impl ScanRecord {
    /// Whether a scan has found the connection.
    pub(super) const fn was_found(&self) -> bool {
        self.last_scan != 0
    }

    /// Notes that a scan found the connection.
    pub(super) fn on_scan(&mut self, scan: u32) {
        self.last_scan = scan;
        self.missed_scans = 0;
    }
}

impl Connection {
    /// A connection that is in this state at this time, without further data.
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
            netns_inode: netns,
            role,
            origin,
            state,
            local: local.into(),
            remote: remote.into(),
            first_seen: time,
            last_transition: time,
            established_at: None,
            handshake: None,
            owner: None,
            is_subflow: false,
            mptcp: None,
            listener: None,
            listener_port: 0,
            established: false,
            owner_ambiguous: false,
            owner_holds: false,
            is_bound: None,
            port_range: None,
            row,
            evidence: ConnectionEvidence::default(),
            scan: ScanRecord::default(),
        }
    }

    /// The ports that connect() may choose for this socket, given those of its namespace.
    pub(super) fn ephemeral_ports(&self, of_netns: EphemeralPorts) -> EphemeralPorts {
        let Some((first, last)) = self.port_range else { return of_netns };
        EphemeralPorts {
            first: if first == 0 { of_netns.first } else { first },
            last: if last == 0 { of_netns.last } else { last },
            ..of_netns
        }
    }

    /// The local address.
    pub fn local(&self) -> SocketAddr {
        self.local.into()
    }

    /// The peer's address.
    pub fn remote(&self) -> SocketAddr {
        self.remote.into()
    }

    pub(super) fn endpoints(&self) -> Endpoints {
        Endpoints { local: self.local(), remote: self.remote() }
    }

    /// The listener's port for a server, the remote port for a client; 0 if the role is unknown.
    pub fn service_port(&self) -> u16 {
        match self.listener_port {
            0 => self.role.service_port(self.local(), self.remote()),
            port => port,
        }
    }

    /// The evidence from the history before the last transition.
    pub(super) fn close_evidence(&self) -> CloseEvidence {
        let &Self { role, established, is_subflow, evidence, .. } = self;
        let ConnectionEvidence { accepted, sibling_reset, resets, time_wait_kind, .. } = evidence;
        CloseEvidence {
            role,
            established,
            is_subflow,
            accepted,
            sibling_reset,
            resets,
            time_wait_kind,
        }
    }

    /// Whether a socket with the same kernel address and these endpoints can be this connection; if
    /// not, the kernel has reused the memory of the socket. `is_young`: the socket is leaving its
    /// first state.
    pub(super) fn matches(&self, netns: NetnsId, endpoints: Endpoints, is_young: bool) -> bool {
        let is_young_child = self.role != Role::Client && is_young;
        self.netns == netns && self.endpoints().can_be(endpoints, is_young_child)
    }

    /// Enters a state and counts that in the row. If this completes the handshake, measures it with
    /// `handshake`. Returns whether the handshake is complete now.
    pub(super) fn enter(
        &mut self,
        state: TcpState,
        row: &mut Row,
        handshake: impl FnOnce(&Self) -> Handshake,
    ) -> bool {
        row.gauges.leave(self.state);
        row.gauges.enter(state);
        self.state = state;
        let completes_handshake = !self.established && !state::is_pending(state);
        if completes_handshake {
            let handshake = handshake(self);
            row.gauges.pending -= 1;
            row.gauges.open += 1;
            row.counters.established += 1;
            row.counters.handshake(&handshake);
            self.established = true;
            self.handshake = Some(handshake);
        }
        completes_handshake
    }

    /// Fills in endpoints that were unknown at the first transition. `is_young`: as in
    /// [`Self::matches`].
    pub(super) fn learn_endpoints(&mut self, endpoints: Endpoints, is_young: bool) {
        let Endpoints { local, remote } = endpoints;
        let has_listeners = self.role == Role::Server && is_young && local.port() != 0;
        if self.local.port == 0 || self.local.ip.is_unspecified() || has_listeners {
            self.local = local.into();
        }
        if self.remote.port == 0 {
            self.remote = remote.into();
        }
    }

    /// Whether `last_transition` was not observed, so that the time in the state is a lower bound.
    pub fn state_since_is_lower_bound(&self) -> bool {
        self.scan.state_since_is_lower_bound
    }

    /// Microseconds since the last segment was received, when a scan last found the connection; `None`
    /// if unknown.
    pub fn idle_us(&self) -> Option<u64> {
        self.scan.idle_ms.map(|ms| u64::from(ms) * 1000)
    }

    /// Whether the first transition was not observed, so that the age is a lower bound.
    pub fn is_adopted(&self) -> bool {
        self.origin != Origin::Observed
    }
}

impl From<&Connection> for Served {
    fn from(connection: &Connection) -> Self {
        Self {
            netns: connection.netns,
            local: SocketAddr::new(connection.local().ip(), connection.service_port()),
            listener: connection.listener,
        }
    }
}

/// All open connections, by socket. If the table is full, the least recently active connection of a
/// random sample is evicted, because an exact order would be expensive.
pub(crate) struct Connections {
    table: IndexMap<SockId, Connection, FxBuildHasher>,
    subflows: Subflows,
    limit: usize,
    evicted: u64,
    /// State of the random number generator, seeded with a constant for reproducible results.
    random: u64,
}

const EVICTION_SAMPLE: usize = 8;

/// An index into the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot(usize);

impl Connections {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            table: IndexMap::default(),
            subflows: Subflows::default(),
            limit: limit.max(1),
            evicted: 0,
            random: 1,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether the next insertion evicts a connection.
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

    /// Adds a connection whose socket has none, and returns the connection that was evicted for it.
    pub(crate) fn insert(&mut self, sock: SockId, connection: Connection) -> Option<Connection> {
        let victim = self.is_full().then(|| self.evict()).flatten();
        if let Some(id) = connection.mptcp {
            self.subflows.add(id, sock);
        }
        self.table.insert(sock, connection);
        victim
    }

    /// The slot of a connection, valid until the next insertion or removal; saves a second lookup.
    pub(crate) fn slot(&self, sock: SockId) -> Option<Slot> {
        self.table.get_index_of(&sock).map(Slot)
    }

    pub(crate) fn at(&mut self, Slot(index): Slot) -> &mut Connection {
        &mut self.table[index]
    }

    pub(crate) fn remove_at(&mut self, Slot(index): Slot) -> Option<Connection> {
        let (sock, connection) = self.table.swap_remove_index(index)?;
        if let Some(id) = connection.mptcp {
            self.subflows.remove(id, sock);
        }
        Some(connection)
    }

    /// Why another subflow of the same MPTCP connection was reset just before this time; `None` if
    /// none was.
    pub(crate) fn sibling_reset(&mut self, slot: Slot, time: Nanos) -> Option<CloseReason> {
        let id = self.at(slot).mptcp?;
        self.subflows.reset_before(id, time)
    }

    /// Notes that a subflow of this MPTCP connection was reset.
    pub(crate) fn note_subflow_reset(&mut self, id: MptcpId, time: Nanos, reason: CloseReason) {
        self.subflows.note_reset(id, time, reason);
    }

    pub(crate) fn remove(&mut self, sock: SockId) -> Option<Connection> {
        self.remove_at(self.slot(sock)?)
    }

    /// Sets the MPTCP connection of a subflow.
    pub(crate) fn set_mptcp(&mut self, sock: SockId, id: Option<MptcpId>) {
        let Some(connection) = self.table.get_mut(&sock).filter(|it| it.mptcp != id) else {
            return;
        };
        if let Some(known) = std::mem::replace(&mut connection.mptcp, id) {
            self.subflows.remove(known, sock);
        }
        if let Some(id) = id {
            self.subflows.add(id, sock);
        }
    }

    /// The open subflows of an MPTCP connection.
    pub(crate) fn subflows(&self, id: MptcpId) -> &[SockId] {
        self.subflows.of(id)
    }

    /// The open subflows of an MPTCP connection except that of this socket.
    pub(crate) fn siblings(&self, id: MptcpId, sock: SockId) -> impl Iterator<Item = &Connection> {
        let others = self.subflows.of(id).iter().filter(move |&&other| other != sock);
        others.filter_map(|other| self.table.get(other))
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (SockId, &Connection)> {
        self.table.iter().map(|(&sock, connection)| (sock, connection))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (SockId, &mut Connection)> {
        self.table.iter_mut().map(|(&sock, connection)| (sock, connection))
    }

    fn evict(&mut self) -> Option<Connection> {
        let len = self.table.len();
        let sample: [usize; EVICTION_SAMPLE] = std::array::from_fn(|_| self.random_below(len));
        let victim = sample.into_iter().min_by_key(|&index| self.table[index].last_transition)?;
        self.evicted += 1;
        self.remove_at(Slot(victim))
    }

    #[expect(clippy::cast_possible_truncation, reason = "any bits of a random number will do")]
    fn random_below(&mut self, bound: usize) -> usize {
        self.next_random() as usize % bound
    }

    /// Xorshift, which is random enough for sampling.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
