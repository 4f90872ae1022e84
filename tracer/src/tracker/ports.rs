//! The bounded table of rows: what is counted per namespace, role and service port.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use indexmap::IndexSet;
use rustc_hash::FxBuildHasher;
use synfin_common::{
    port_count::{PortEvent, SynQueueEvent},
    reset::ResetReason,
    state::TcpState,
};

use super::{
    connections::Connection, histogram::LatencyHistogram, listener_gap::ListenerUptime,
    owners::Label, time_wait::TimeWaits,
};
use crate::{
    tcp::{
        close_reason::{CloseReason, Phase},
        handshake::{Handshake, Unmeasured},
        labels::Enumeration,
        role::Role,
    },
    trace::ids::NetnsId,
};

/// A row's place in its table. Good for as long as something lives in the row.
pub(crate) type RowId = u32;

/// What a row is about, as finely as there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// Network namespace; 0 for the rest.
    pub netns: NetnsId,
    /// Which side we are.
    pub role: Role,
    /// The service port; `None` for the rest, which all ports without a row of their own share.
    pub port: Option<u16>,
    /// A client's owner; `None` if it is not known or not told apart, and for servers, whose
    /// owners are their listeners'.
    pub owner: Option<LabelId>,
    /// Where a client connects to; `None` if that is not told apart, and for servers.
    pub remote: Option<IpAddr>,
}

impl RowKey {
    /// A server's, or what all clients of a port share.
    pub(crate) const fn of_port(netns: NetnsId, role: Role, port: u16) -> Self {
        Self { netns, role, port: Some(port), owner: None, remote: None }
    }

    /// This key, and those that tell less and less apart.
    fn coarser(self) -> [Self; 3] {
        let any_remote = Self { remote: None, ..self };
        [self, any_remote, Self { owner: None, ..any_remote }]
    }
}

/// A label's place among all labels.
pub(crate) type LabelId = u32;

/// What adds up over time.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Lives that began here, connects or children of a listener; an adopted SYN_SENT included.
    pub attempts: u64,
    /// Children that the kernel itself took back.
    pub discarded: u64,
    /// Handshakes that were seen to get through.
    pub established: u64,
    /// Connections first seen when they were established already.
    pub adopted: u64,
    ends: [u64; CloseReason::ALL.len()],
    /// Handshakes with nothing sent twice.
    pub clean: LatencyHistogram,
    /// Handshakes whose SYN or SYN-ACK was sent again.
    pub retransmitted: LatencyHistogram,
    unmeasured: [u64; Unmeasured::ALL.len()],
    /// Entries into TIME_WAIT.
    pub time_wait_entered: u64,
    /// Entries that the kernel's full table prevented.
    pub time_wait_overflowed: u64,
    /// From birth to end, of connections whose birth was seen.
    pub lifetime: LatencyHistogram,
    /// From the last received segment to the end.
    pub idle: LatencyHistogram,
    /// The same of those that ended abnormally.
    pub idle_abnormal: LatencyHistogram,
    /// Connections waiting for accept() that each new one found on its listener.
    pub accept_depth: LatencyHistogram,
    /// How long connections waited for accept(), microseconds.
    pub accept_wait: LatencyHistogram,
    syn_queue: [u64; SynQueueEvent::ALL.len()],
    /// What listeners dropped, for whatever reason.
    pub listener_drops: u64,
    /// SYN-ACKs that were sent again.
    pub synack_retransmits: u64,
    resets: [u64; ResetReason::COUNT],
    closed_first: [u64; ClosedFirst::ALL.len()],
    /// Bytes that the peer acknowledged, of connections that have ended.
    pub bytes_sent: u64,
    /// Bytes received, of connections that have ended.
    pub bytes_received: u64,
}

impl Counters {
    /// How many ended for this reason.
    pub fn ended(&self, reason: CloseReason) -> u64 {
        self.ends[reason.index()]
    }

    /// How many ended before they were established.
    pub fn failed(&self) -> u64 {
        self.sum(|reason| reason.phase() == Phase::Handshake)
    }

    /// How many ended after they were established.
    pub fn closed(&self) -> u64 {
        self.sum(|reason| reason.phase() == Phase::Established)
    }

    /// The sum over the reasons that `which` picks.
    pub fn sum(&self, which: impl Fn(CloseReason) -> bool) -> u64 {
        CloseReason::ALL
            .iter()
            .filter(|&&reason| which(reason))
            .map(|&reason| self.ended(reason))
            .sum()
    }

    /// Handshakes without a time, for this cause.
    pub fn unmeasured(&self, cause: Unmeasured) -> u64 {
        self.unmeasured[cause as usize]
    }

    /// Handshakes without a time.
    pub fn unmeasured_total(&self) -> u64 {
        self.unmeasured.iter().sum()
    }

    /// Resets that were sent with no connection behind them, for this reason.
    pub fn resets(&self, reason: ResetReason) -> u64 {
        self.resets[reason as usize]
    }

    /// All of them.
    pub fn resets_total(&self) -> u64 {
        self.resets.iter().copied().fold(0, u64::saturating_add)
    }

    /// How often this befell a handshake in a listener's SYN queue, as far as the kernel shows it.
    pub fn syn_queue(&self, what: SynQueueEvent) -> u64 {
        self.syn_queue[what as usize]
    }

    /// How many were closed first by this side.
    pub fn closed_first(&self, side: ClosedFirst) -> u64 {
        self.closed_first[side as usize]
    }

    /// A connection ended, in this state.
    pub(super) fn end(&mut self, reason: CloseReason, state: TcpState) {
        self.ends[reason.index()] += 1;
        if let Some(side) = ClosedFirst::by_state(state) {
            self.closed_first[side as usize] += 1;
        }
    }

    pub(super) fn count_at_port(&mut self, counted: PortEvent, count: u64) {
        let sum = match counted {
            PortEvent::SynackRetransmit => &mut self.synack_retransmits,
            PortEvent::Reset(reason) => &mut self.resets[reason as usize],
            PortEvent::SynQueue(what) => &mut self.syn_queue[what as usize],
        };
        *sum = sum.saturating_add(count);
    }

    pub(super) fn handshake(&mut self, handshake: &Handshake) {
        match handshake {
            Handshake::Clean { us } => self.clean.add((*us).into()),
            Handshake::Retransmitted { us, .. } => self.retransmitted.add((*us).into()),
            Handshake::Unmeasured(cause) => self.unmeasured[*cause as usize] += 1,
        }
    }

    /// Adds all of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        let Self {
            attempts,
            discarded,
            established,
            adopted,
            ends,
            clean,
            retransmitted,
            unmeasured,
            time_wait_entered,
            time_wait_overflowed,
            lifetime,
            idle,
            idle_abnormal,
            accept_depth,
            accept_wait,
            syn_queue,
            listener_drops,
            synack_retransmits,
            resets,
            closed_first,
            bytes_sent,
            bytes_received,
        } = self;
        *attempts += other.attempts;
        *discarded += other.discarded;
        *established += other.established;
        *adopted += other.adopted;
        for (sum, count) in ends.iter_mut().zip(other.ends) {
            *sum += count;
        }
        clean.merge(&other.clean);
        retransmitted.merge(&other.retransmitted);
        for (sum, count) in unmeasured.iter_mut().zip(other.unmeasured) {
            *sum += count;
        }
        *time_wait_entered += other.time_wait_entered;
        *time_wait_overflowed += other.time_wait_overflowed;
        lifetime.merge(&other.lifetime);
        idle.merge(&other.idle);
        idle_abnormal.merge(&other.idle_abnormal);
        accept_depth.merge(&other.accept_depth);
        accept_wait.merge(&other.accept_wait);
        for (sum, count) in syn_queue.iter_mut().zip(other.syn_queue) {
            *sum = sum.saturating_add(count);
        }
        *listener_drops += other.listener_drops;
        *synack_retransmits = synack_retransmits.saturating_add(other.synack_retransmits);
        for (sum, count) in resets.iter_mut().zip(other.resets) {
            *sum = sum.saturating_add(count);
        }
        for (sum, count) in closed_first.iter_mut().zip(other.closed_first) {
            *sum += count;
        }
        *bytes_sent = bytes_sent.saturating_add(other.bytes_sent);
        *bytes_received = bytes_received.saturating_add(other.bytes_received);
    }
}

/// Who sent the first FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedFirst {
    /// We did.
    Us,
    /// The peer did.
    Peer,
    /// Both, before either saw the other's.
    Both,
}

impl ClosedFirst {
    /// All.
    pub const ALL: [Self; 3] = [Self::Us, Self::Peer, Self::Both];

    /// Their names.
    pub const WORDS: Enumeration =
        Enumeration { name: "side", all: || Self::ALL.map(Self::name).into() };

    /// The name that every output uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Us => "us",
            Self::Peer => "peer",
            Self::Both => "both",
        }
    }

    /// A connection's last state tells.
    const fn by_state(state: TcpState) -> Option<Self> {
        match state {
            TcpState::FinWait1 | TcpState::FinWait2 => Some(Self::Us),
            TcpState::CloseWait | TcpState::LastAck => Some(Self::Peer),
            TcpState::Closing => Some(Self::Both),
            _ => None,
        }
    }
}

/// What is so at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Living connections by the number of their state.
    states: [u64; 13],
    /// Of these, those not established yet.
    pub pending: u64,
    /// Of these, those established, whatever they are closing.
    pub open: u64,
}

impl Gauges {
    /// How many are in this state.
    pub fn state(&self, state: TcpState) -> u64 {
        self.states[state.number() as usize]
    }

    pub(super) fn enter(&mut self, state: TcpState) {
        self.states[state.number() as usize] += 1;
    }

    pub(super) fn leave(&mut self, state: TcpState) {
        self.states[state.number() as usize] -= 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (sum, count) in self.states.iter_mut().zip(other.states) {
            *sum += count;
        }
        self.pending += other.pending;
        self.open += other.open;
    }
}

/// What the last scan over the namespace's sockets showed; orphans in FIN_WAIT2 are followed from
/// there on where the kernel shows what becomes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanGauges {
    /// Handshakes waiting for their last ACK.
    pub half_open: u64,
    /// Orphans in FIN_WAIT2 that the kernel keeps beside TIME_WAIT.
    pub fin_wait2_orphans: u64,
    /// Connections waiting for accept(), of all listeners on the port.
    pub accept_queue: u64,
    /// The limit of that on one listener, the least if they differ; 0: there is none.
    pub accept_limit: u64,
    /// Listeners on the port.
    pub listeners: u64,
    /// Connections that retransmit and are not answered.
    pub stalled: u64,
}

impl ScanGauges {
    /// A listener has this limit.
    pub(super) fn limit_queue(&mut self, limit: u64) {
        self.accept_limit = least_limit(self.accept_limit, limit);
    }

    /// Whether some of it goes away without a record.
    pub(super) fn will_pass(&self) -> bool {
        self.half_open + self.fin_wait2_orphans + self.accept_queue + self.stalled > 0
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.half_open += other.half_open;
        self.fin_wait2_orphans += other.fin_wait2_orphans;
        self.accept_queue += other.accept_queue;
        self.limit_queue(other.accept_limit);
        self.listeners += other.listeners;
        self.stalled += other.stalled;
    }
}

/// Of two limits the lesser, where 0 is none.
pub(super) fn least_limit(one: u64, other: u64) -> u64 {
    [one, other].into_iter().filter(|&limit| limit > 0).min().unwrap_or(0)
}

/// The books of one namespace, role and port.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// Since the last cut.
    pub(super) interval: Counters,
    pub(super) gauges: Gauges,
    /// The gauges at the last cut.
    pub(super) opening_balance: Gauges,
    pub(super) time_waits: TimeWaits,
    /// What each namespace's last scan showed. A row has one namespace, that of the rest many.
    pub(super) scanned: BTreeMap<NetnsId, ScanGauges>,
    /// Most connections seen waiting for accept() since the last cut.
    pub(super) accept_peak: u64,
    /// The limit of that on one listener, the least that a new connection found since the last cut;
    /// 0: there was none.
    pub(super) accept_limit: u64,
    pub(super) uptime: ListenerUptime,
    /// Our addresses that clients connect from, up to [`SOURCES_LIMIT`].
    pub(super) sources: Vec<IpAddr>,
    /// The owners, up to [`OWNERS_LIMIT`].
    pub(super) owners: BTreeSet<Label>,
    /// The one that was told last, which mostly is told again.
    latest_owner: Option<Label>,
}

/// More owners than this are not told apart.
const OWNERS_LIMIT: usize = 64;

/// More addresses of ours than this are not told apart.
const SOURCES_LIMIT: usize = 64;

impl Row {
    /// Nothing lives here: all that it holds adds up elsewhere as well.
    fn is_idle(&self) -> bool {
        self.gauges == Gauges::default() && self.time_waits.now() == 0 && self.scanned.is_empty()
    }

    /// Takes over what a lifeless row has counted.
    fn absorb(&mut self, row: Self) {
        self.interval.merge(&row.interval);
        self.opening_balance.merge(&row.opening_balance);
        self.time_waits.absorb_peak(row.time_waits.peak());
        self.accept_peak = self.accept_peak.max(row.accept_peak);
        row.owners.iter().for_each(|owner| self.add_owner(owner));
    }

    /// Takes note of which address of ours it is that a client connects from.
    pub(super) fn connects_from(&mut self, connection: &Connection) {
        let source = connection.local().ip();
        if connection.role == Role::Client
            && !self.sources.contains(&source)
            && self.sources.len() < SOURCES_LIMIT
        {
            self.sources.push(source);
        }
    }

    /// An orphan in FIN_WAIT2 is one no more.
    pub(super) fn lose_orphan(&mut self, netns: NetnsId) {
        if let Some(scanned) = self.scanned.get_mut(&netns) {
            scanned.fin_wait2_orphans = scanned.fin_wait2_orphans.saturating_sub(1);
        }
    }

    /// Takes note of an owner.
    pub(super) fn add_owner(&mut self, owner: &Label) {
        if self.latest_owner.as_ref().is_some_and(|latest| latest.is_same(owner)) {
            return;
        }
        if self.owners.len() < OWNERS_LIMIT {
            self.owners.insert(owner.clone());
        }
        self.latest_owner = Some(owner.clone());
    }

    /// These are the owners, and nobody else.
    pub(super) fn set_owners(&mut self, owners: impl IntoIterator<Item = Label>) {
        self.owners.clear();
        self.latest_owner = None;
        owners.into_iter().for_each(|owner| self.add_owner(&owner));
    }
}

/// All rows. A port gets one when something on it listens or gets established; before that, only
/// while the first half of the table lasts, so that a scan cannot crowd out the services. Nor can
/// the destinations and owners of clients, which are told apart only within their own share.
///
/// When the table is full, rows in which nothing lives any more are put together, telling less and
/// less apart: first destinations, then owners, then namespaces, which may be gone, then ports.
pub(crate) struct Ports {
    ids: HashMap<RowKey, RowId, FxBuildHasher>,
    rows: Vec<Option<(RowKey, Row)>>,
    free: Vec<RowId>,
    /// How many rows each port has.
    by_port: HashMap<(NetnsId, Role, u16), u32, FxBuildHasher>,
    labels: IndexSet<Label, FxBuildHasher>,
    limit: usize,
    folded: u64,
    /// Bookings that found the table full since rows were last put together.
    refused: u64,
}

/// More owners than this are not told apart.
const LABELS_LIMIT: usize = 4096;

/// Rows are put together at most once in so many bookings that find no room: each time all rows
/// are looked at.
const RETIRE_EVERY: u64 = 1024;

impl Ports {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            ids: HashMap::default(),
            rows: Vec::new(),
            free: Vec::new(),
            by_port: HashMap::default(),
            labels: IndexSet::default(),
            limit,
            folded: 0,
            refused: 0,
        }
    }

    /// The label's number; `None` if there are too many.
    pub(crate) fn label(&mut self, label: &Label) -> Option<LabelId> {
        let index = match self.labels.get_index_of(label) {
            Some(index) => index,
            None if self.labels.len() < LABELS_LIMIT => self.labels.insert_full(label.clone()).0,
            None => return None,
        };
        LabelId::try_from(index).ok()
    }

    /// The finest row for `key` that there is or that there is room for, at worst the one of the
    /// rest. `proven`: see [`Ports`]. `may_retire`: nobody holds the id of a row in which nothing
    /// lives.
    pub(crate) fn row(&mut self, key: RowKey, proven: bool, may_retire: bool) -> RowId {
        if let Some(&id) = self.ids.get(&key) {
            return id;
        }
        if !self.has_room(key, proven) && may_retire {
            if self.refused.is_multiple_of(RETIRE_EVERY) {
                self.retire();
            }
            self.refused += 1;
        }
        for key in key.coarser() {
            if let Some(&id) = self.ids.get(&key) {
                return id;
            }
            if self.has_room(key, proven) {
                return self.add(key);
            }
        }
        self.folded += 1;
        self.other_row(key.role)
    }

    /// The row of `key`, if it has one.
    pub(crate) fn find(&self, key: RowKey) -> Option<RowId> {
        self.ids.get(&key).copied()
    }

    /// What the row is about, if it is still there.
    pub(crate) fn key(&self, id: RowId) -> Option<RowKey> {
        self.rows.get(id as usize)?.as_ref().map(|(key, _)| *key)
    }

    /// Whether the port has a row.
    pub(crate) fn knows(&self, netns: NetnsId, role: Role, port: u16) -> bool {
        self.by_port.contains_key(&(netns, role, port))
    }

    pub(crate) fn get_mut(&mut self, id: RowId) -> &mut Row {
        match &mut self.rows[id as usize] {
            Some((_, row)) => row,
            None => unreachable!("a row with lives in it is never given up"),
        }
    }

    /// All rows with their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RowId, &RowKey, &Row)> {
        let rows = self.rows.iter().enumerate();
        rows.filter_map(|(id, row)| row.as_ref().map(|(key, row)| (id as RowId, key, row)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&RowKey, &mut Row)> {
        self.rows.iter_mut().flatten().map(|(key, row)| (&*key, row))
    }

    /// All rows, and the labels that their keys speak of.
    pub(crate) fn with_labels(
        &mut self,
    ) -> (&IndexSet<Label, FxBuildHasher>, impl Iterator<Item = (RowId, &RowKey, &mut Row)>) {
        let rows = self.rows.iter_mut().enumerate();
        let rows = rows.filter_map(|(id, row)| Some((id as RowId, row.as_mut()?)));
        (&self.labels, rows.map(|(id, (key, row))| (id, &*key, row)))
    }

    /// How often something was booked on the rest for want of room.
    pub(crate) fn overflowed(&self) -> u64 {
        self.folded
    }

    fn has_room(&self, key: RowKey, proven: bool) -> bool {
        let share = match key {
            RowKey { remote: Some(_), .. } => self.limit / 2,
            RowKey { owner: Some(_), .. } => self.limit / 4 * 3,
            _ => self.limit,
        };
        self.ids.len() < if proven { share } else { share / 2 }
    }

    /// The row that a role's ports share which have none of their own; beyond the limit.
    pub(crate) fn other_row(&mut self, role: Role) -> RowId {
        let key = RowKey { netns: 0, role, port: None, owner: None, remote: None };
        self.find(key).unwrap_or_else(|| self.add(key))
    }

    fn add(&mut self, key: RowKey) -> RowId {
        let row = Some((key, Row::default()));
        let id = match self.free.pop() {
            Some(id) => {
                self.rows[id as usize] = row;
                id
            }
            None => {
                self.rows.push(row);
                self.rows.len() as RowId - 1
            }
        };
        self.ids.insert(key, id);
        if let Some(port) = key.port {
            *self.by_port.entry((key.netns, key.role, port)).or_default() += 1;
        }
        id
    }

    fn remove(&mut self, id: RowId) -> Option<(RowKey, Row)> {
        let (key, row) = self.rows[id as usize].take()?;
        self.ids.remove(&key);
        self.free.push(id);
        if let Some(port) = key.port
            && let Some(rows) = self.by_port.get_mut(&(key.netns, key.role, port))
        {
            *rows -= 1;
            if *rows == 0 {
                self.by_port.remove(&(key.netns, key.role, port));
            }
        }
        Some((key, row))
    }

    /// Makes room, see [`Ports`].
    fn retire(&mut self) {
        let folds: [fn(RowKey) -> RowKey; 4] = [
            |key| RowKey { remote: None, ..key },
            |key| RowKey { remote: None, owner: None, ..key },
            |key| RowKey { remote: None, owner: None, netns: 0, ..key },
            |key| RowKey { remote: None, owner: None, netns: 0, port: None, ..key },
        ];
        for fold in folds {
            for id in 0..self.rows.len() as RowId {
                let Some((key, row)) = &self.rows[id as usize] else { continue };
                let target = fold(*key);
                if target == *key || !row.is_idle() {
                    continue;
                }
                if let Some((_, row)) = self.remove(id) {
                    let target = self.find(target).unwrap_or_else(|| self.add(target));
                    self.get_mut(target).absorb(row);
                }
            }
            if self.ids.len() < self.limit / 2 {
                return;
            }
        }
    }
}
