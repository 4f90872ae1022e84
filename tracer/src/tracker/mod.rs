//! The heart: from transitions and scans to the books per port. Pure: no clock, no I/O, no lock,
//! no log; equal input gives equal figures.
//!
//! What always holds, per row and in sum, whatever is lost:
//!
//! - attempts = pending + failed + established + discarded
//! - established + adopted = open + closed
//! - `failed` and `closed` are the sums of their own reasons
//! - established = clean + retransmitted + unmeasured handshakes
//!
//! (Over an interval, what was pending or open at its start is added on the left.)

mod apply;
pub(crate) mod classify;
pub(crate) mod closed_ports;
mod connections;
pub(super) mod ephemeral;
mod handshake;
pub(crate) mod histogram;
pub(crate) mod listener_gap;
mod listeners;
mod namespaces;
pub(crate) mod oldest;
mod owners;
pub(crate) mod pending_close;
pub(super) mod ports;
pub(crate) mod report_rows;
pub(crate) mod scan;
pub(super) mod snapshot;
mod time_wait;
pub(crate) mod undecided;

use std::{net::SocketAddr, sync::Arc};

use apply::time_wait::EarlyTimeWaits;
use closed_ports::ClosedPorts;
pub use connections::{Connection, Origin};
use connections::{Connections, Slot};
pub use ephemeral::Ephemeral;
pub use histogram::LatencyHistogram;
pub use listener_gap::ListenerUptime;
use listeners::{Listener, Listeners};
use namespaces::Namespaces;
pub use oldest::{LINGERING_STATES, Oldest};
pub use owners::{Label, Owner};
use owners::{ProcessNames, SocketOwners};
use pending_close::PendingCloses;
pub use ports::{ClosedFirst, Counters, Gauges, RowKey, ScanGauges};
use ports::{Ports, RowId, least_limit};
pub use report_rows::{Common, RowName, RowSnapshot};
pub use snapshot::{Events, ScanCoverage, Snapshot, Tables};
use synfin_common::{event::Flags, state::TcpState};
use time_wait::{TimeWaitRows, UnconfirmedTimeWaits};
use undecided::UndecidedSockets;

pub use crate::tcp::{
    group_by::By,
    handshake::{Handshake, Unmeasured},
    role::Role,
    state::{OPEN_STATES, STATES},
};
use crate::{
    tcp::{
        close_reason::CloseReason, coverage::Coverage, state::is_pending,
        transition::TransitionKind,
    },
    trace::{
        counters,
        counters::{KERNEL_COUNTERS, Tick},
        event::{Input, Transition},
        filter::Filter,
        ids::{NetnsId, SockId},
        time::Nanos,
    },
};

/// The handshake of a connection that was not seen to get established.
const EVIDENCE_LOST: Handshake = Handshake::Unmeasured(Unmeasured::EvidenceLost);

/// How much the tracker may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Living connections.
    pub connections: usize,
    /// Rows: namespace × role × service port × owner × destination.
    pub rows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1 << 20, rows: 4096 }
    }
}

/// A connection that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Closed {
    /// Which side we were.
    pub role: Role,
    /// The role is a guess.
    pub role_assumed: bool,
    /// Network namespace.
    pub netns: NetnsId,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// The listener's port for a server, the remote port for a client.
    pub service_port: u16,
    /// Why it ended.
    pub reason: CloseReason,
    /// How we came to know it.
    pub origin: Origin,
    /// When it was born, if that was seen.
    pub opened: Option<Nanos>,
    /// When it was born or first seen.
    pub since: Nanos,
    /// When it ended.
    pub closed: Nanos,
    /// Its handshake, if we saw it get through.
    pub handshake: Option<Handshake>,
    /// It left a TIME_WAIT; `None` if the kernel's table was full, so that it may have or not.
    pub time_wait: Option<bool>,
    /// Microseconds since the last segment was received.
    pub idle_us: Option<u64>,
    /// The owning process.
    pub owner: Option<Arc<Owner>>,
    /// Bytes that the peer acknowledged.
    pub bytes_sent: Option<u64>,
    /// Bytes received.
    pub bytes_received: Option<u64>,
}

/// Who wants to know of each thing as it happens. The tracker's books do not depend on it.
pub trait Observer {
    /// A socket changed its state. `connection` is what is known of the connection up to then, its
    /// state still the old one; `None` for a listener.
    fn transition(&mut self, _transition: &Transition, _life: Option<&Connection>) {}
    /// A handshake got through.
    fn established(&mut self, _life: &Connection) {}
    /// A connection ended.
    fn closed(&mut self, _closed: &Closed) {}
}

/// Nobody wants to know.
impl Observer for () {}

/// Keeps the books.
pub struct Tracker {
    connections: Connections,
    ports: Ports,
    listeners: Listeners,
    undecided: UndecidedSockets,
    coverage: Coverage,
    names: ProcessNames,
    socket_owners: SocketOwners,
    time_wait_rows: TimeWaitRows,
    unconfirmed_time_waits: UnconfirmedTimeWaits,
    early_time_waits: EarlyTimeWaits,
    pending_closes: PendingCloses,
    closed_ports: ClosedPorts,
    /// The scan that goes on, unless it is being worked on.
    scan: Option<Box<scan::SocketScan>>,
    is_scanning: bool,
    scans: u32,
    namespaces: Namespaces,
    now: Nanos,
    /// Of ends up to here, all evidence was given.
    classified_until: Nanos,
    interval_start: Nanos,
    kernel: counters::Counters,
    /// What the kernel counted in the interval, by [`KERNEL_COUNTERS`].
    kernel_counts: [u64; KERNEL_COUNTERS.len()],
    /// Records that reached us, whatever became of them.
    received: u64,
    unreadable: u64,
    gaps: u64,
    /// The events up to the last cut.
    events_at_snapshot: Events,
}

impl Tracker {
    /// Begins at `start`.
    pub fn new(limits: Limits, start: Nanos) -> Self {
        Self {
            connections: Connections::new(limits.connections),
            ports: Ports::new(limits.rows),
            listeners: Listeners::default(),
            undecided: UndecidedSockets::default(),
            coverage: Coverage::default(),
            names: ProcessNames::default(),
            socket_owners: SocketOwners::default(),
            time_wait_rows: TimeWaitRows::default(),
            unconfirmed_time_waits: UnconfirmedTimeWaits::default(),
            early_time_waits: EarlyTimeWaits::default(),
            pending_closes: PendingCloses::default(),
            closed_ports: ClosedPorts::default(),
            scan: None,
            is_scanning: false,
            scans: 0,
            namespaces: Namespaces::default(),
            now: start,
            classified_until: 0,
            interval_start: start,
            kernel: counters::Counters::default(),
            kernel_counts: Default::default(),
            received: 0,
            unreadable: 0,
            gaps: 0,
            events_at_snapshot: Events::default(),
        }
    }

    /// What one of these excludes is not in the books.
    #[must_use]
    pub fn with_filters(self, filters: Vec<Filter>) -> Self {
        Self { undecided: UndecidedSockets::new(filters), ..self }
    }

    /// What the kernel shows besides transitions.
    #[must_use]
    pub fn with_coverage(self, coverage: Coverage) -> Self {
        Self { coverage, ..self }
    }

    /// Takes one piece of input.
    pub fn apply(&mut self, input: &Input, observer: &mut impl Observer) {
        match input {
            Input::Transition(transition) => {
                self.count_record(transition.time);
                self.namespaces.note_transition(transition.netns, transition.time);
                self.classify_previous(transition.sock, observer);
                if self.undecided.admits_everything() {
                    self.transition(transition, observer);
                } else {
                    self.filter_transition(transition, observer);
                }
            }
            Input::Reset(reset) => {
                self.count_record(reset.time);
                self.reset(reset, observer);
            }
            Input::TimeWaitEntry(entry) => {
                self.count_record(entry.time);
                self.time_wait_entered(entry);
            }
            Input::TimeWaitChange(change) => {
                self.count_record(change.time);
                self.time_wait_changes(change);
            }
            Input::Accepted(accepted) => {
                self.count_record(accepted.time);
                self.accepted(accepted);
            }
            Input::SocketHolders(holders) => self.apply_socket_holders(holders, observer),
            Input::Names(names) => self.names.learn(names),
            Input::ScanBegin(begin) => self.scan_begins(begin),
            Input::ScannedSocket(socket) => self.scanned_socket(socket, observer),
            Input::ScannedTimeWait(time_wait) => self.scanned_time_wait(time_wait),
            Input::ScanEnd(end) => self.scan_ends(end, observer),
            Input::Tick(tick) => self.tick(tick),
            Input::UnreadableRecord => {
                self.received += 1;
                self.unreadable += 1;
            }
            Input::UnreadableScan => self.scan_is_unreadable(),
        }
        self.classify_until(self.classified_until, observer);
    }

    fn tick(&mut self, tick: &Tick) {
        self.now = self.now.max(tick.time);
        // What is counted only grows, whatever a damaged recording says.
        let known = &mut self.kernel;
        let counters::Counters { seen, lost, filtered, missed } = &tick.counters;
        known.missed = known.missed.max(*missed);
        for (known, new) in
            [(&mut known.seen, seen), (&mut known.lost, lost), (&mut known.filtered, filtered)]
        {
            known.iter_mut().zip(new).for_each(|(known, new)| *known = (*known).max(*new));
        }
        self.record_port_counts(&tick.ports);
        // While records are on their way, a tick is younger than they are.
        let [seen, lost, filtered] = self.kernel.totals();
        if seen <= self.received.saturating_add(lost).saturating_add(filtered) {
            let settled = tick.time.saturating_sub(pending_close::WAIT);
            self.classified_until = self.classified_until.max(settled);
        }
    }

    /// A record was made at this time.
    fn count_record(&mut self, time: Nanos) {
        self.received += 1;
        self.now = self.now.max(time);
        self.classified_until = self.classified_until.max(time.saturating_sub(pending_close::WAIT));
    }

    /// No more input comes: ends are settled by what is known, and what a filter has not decided is
    /// left out.
    pub fn finish(&mut self, observer: &mut impl Observer) {
        self.classify_until(Nanos::MAX, observer);
        self.undecided.close();
    }

    /// The living connections.
    pub fn open(&self) -> impl ExactSizeIterator<Item = (SockId, &Connection)> {
        self.connections.iter()
    }

    /// Connections that made room for others.
    pub fn evicted(&self) -> u64 {
        self.connections.evicted()
    }

    /// The time of the latest input.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// Whether a scan over the namespace could show anything new: it was never scanned, something
    /// happened in it since, or events were lost.
    pub fn wants_scan(&self, netns: NetnsId) -> bool {
        self.undecided.may_be_in(netns)
            && self.namespaces.wants_scan(netns, self.losses(), self.now)
    }

    /// Whether a scan over the namespace could show anything that the filters do not exclude.
    pub fn admits_scan(&self, netns: NetnsId) -> bool {
        self.undecided.may_be_in(netns)
    }

    /// Records that are known not to have reached us, one way or another.
    fn losses(&self) -> u64 {
        let events = self.events();
        [events.lost, events.missed, events.gaps, events.unreadable]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    fn transition(&mut self, transition: &Transition, observer: &mut impl Observer) {
        match TransitionKind::of(transition.old, transition.new) {
            TransitionKind::Listens => {
                observer.transition(transition, None);
                self.listener_opened(transition);
            }
            TransitionKind::StopsListening => {
                observer.transition(transition, None);
                self.listener_closed(transition);
                if let Some(scan) = &mut self.scan {
                    scan.closed(transition);
                }
            }
            TransitionKind::Birth(role) => self.birth(transition, role, observer),
            TransitionKind::Onward => self.apply_transition(transition, observer),
            TransitionKind::End => self.end(transition, observer),
        }
    }

    /// The row to book on.
    fn row(&mut self, key: RowKey, proven: bool) -> RowId {
        // A scan holds rows in which nothing may live yet.
        let may_retire = !self.is_scanning;
        self.ports.row(key, proven, may_retire)
    }

    /// What a connection is booked under.
    fn row_key(
        &mut self,
        netns: NetnsId,
        role: Role,
        (local, remote): (SocketAddr, SocketAddr),
        owner: Option<&Owner>,
    ) -> RowKey {
        let key = RowKey::of_port(netns, role, role.service_port(local, remote));
        match role {
            Role::Server => key,
            Role::Client => RowKey {
                owner: owner.and_then(|owner| self.ports.label(&owner.label)),
                remote: Some(remote.ip()),
                ..key
            },
        }
    }

    fn listener_opened(&mut self, transition: &Transition) {
        let (netns, local) = (transition.netns, transition.local);
        let listener = Listener {
            netns,
            local,
            owner: self.names.owner_at_birth(transition),
            holders: Vec::new(),
            owners_checked_at: 0,
            cgroup: transition.opening.as_ref().map_or(0, |opening| opening.cgroup),
            listening_since: transition.time,
            last_seen: transition.time,
            last_scan: 0,
            missed_scans: 0,
            defers_accept: transition.flags.contains(Flags::DEFER_ACCEPT),
            // A socket may have listened before.
            drops: transition.opening.as_ref().map_or(0, |opening| opening.accept_queue.0),
        };
        self.listeners.insert(transition.sock, listener);
        let row = self.row(RowKey::of_port(netns, Role::Server, local.port()), true);
        if self.shows_listener(transition.sock) {
            self.ports.get_mut(row).uptime.on_listen(transition.time);
        }
    }

    /// A listener is gone; its row remembers whose it was.
    fn listener_closed(&mut self, transition: &Transition) {
        let is_shown = self.shows_listener(transition.sock);
        let Some(mut listener) = self.listeners.remove(transition.sock) else {
            return;
        };
        let (netns, port) = (listener.netns, listener.local.port());
        let Some(row) = self.ports.find(RowKey::of_port(netns, Role::Server, port)) else {
            return;
        };
        let row = self.ports.get_mut(row);
        if let Some(closing) = transition.closing.filter(|_| is_shown) {
            row.interval.listener_drops += listener.drops_since(closing.unread);
        }
        if !self.listeners.is_served(netns, port) {
            if is_shown {
                row.uptime.on_close(transition.time);
            }
            row.set_owners(listener.labels());
        }
    }

    fn birth(&mut self, transition: &Transition, role: Role, observer: &mut impl Observer) {
        if self.connections.get(transition.sock).is_some() {
            // The socket's address is used anew, so we missed how its last connection ended.
            self.gaps += 1;
            self.lose_sight(transition.sock, transition.time, observer);
        }
        let opening = transition.opening.as_ref();
        let owner = match role {
            Role::Client => self.names.owner_at_birth(transition),
            Role::Server => self.listeners.owner(transition.netns, transition.local).cloned(),
        };
        let ends = (transition.local, transition.remote);
        let key = self.row_key(transition.netns, role, ends, owner.as_deref());
        let row = self.row(key, role == Role::Server);
        let (netns, time) = (transition.netns, transition.time);
        let deferred_accept = transition.flags.contains(Flags::DEFER_ACCEPT)
            || role == Role::Server && self.listeners.defer_accept(netns, transition.local);
        let connection =
            Connection::new(netns, role, Origin::Observed, transition.old, ends, time, row);
        let mut connection = Connection { owner, deferred_accept, ..connection };
        observer.transition(transition, Some(&connection));
        connection.state = transition.new;
        if let (Role::Server, Some(opening)) = (role, opening) {
            let row = self.ports.get_mut(row);
            row.accept_peak = row.accept_peak.max(opening.accept_queue.0.into());
            row.accept_limit = least_limit(row.accept_limit, opening.accept_queue.1.into());
            row.interval.accept_depth.add(opening.accept_queue.0.into());
        }
        self.add(transition.sock, connection, observer);
    }

    /// Puts a connection into the table and on the books.
    fn add(&mut self, sock: SockId, connection: Connection, observer: &mut impl Observer) {
        let row = self.ports.get_mut(connection.row);
        if connection.established {
            row.interval.adopted += 1;
            row.gauges.open += 1;
            row.connects_from(&connection);
        } else {
            row.interval.attempts += 1;
            row.gauges.pending += 1;
        }
        row.gauges.enter(connection.state);
        if let Some(owner) = &connection.owner {
            row.add_owner(&owner.label);
        }
        if let Some(evicted) = self.connections.insert(sock, connection) {
            let time = self.now;
            self.close_unobserved(&evicted, time, observer);
        }
    }

    /// Which side a socket is that was not seen at its birth, and whether that is a guess.
    fn role_of(
        &self,
        netns: NetnsId,
        (local, remote): (SocketAddr, SocketAddr),
        port_by_connect: Option<bool>,
    ) -> (Role, bool) {
        let has_row = |role, port| self.ports.knows(netns, role, port);
        match port_by_connect {
            Some(true) => (Role::Client, false),
            _ if self.listeners.is_served(netns, local.port()) => (Role::Server, false),
            None => (Role::Client, true),
            // Its port was bound: of a listener that has closed, or by a client that chose it.
            Some(false) if has_row(Role::Server, local.port()) => (Role::Server, true),
            Some(false) if has_row(Role::Client, remote.port()) => (Role::Client, true),
            Some(false) => (Role::Server, true),
        }
    }

    /// Takes up a connection in the middle of its connection, at the old state of its first record.
    fn adopt_from(
        &mut self,
        transition: &Transition,
        observer: &mut impl Observer,
    ) -> Option<Slot> {
        let origin = self.origin_of_adopted(transition.netns);
        if origin == Origin::AfterLoss {
            self.gaps += 1;
        }
        let (role, role_assumed) = match transition.old {
            TcpState::SynSent => (Role::Client, false),
            _ => self.role_of(transition.netns, (transition.local, transition.remote), None),
        };
        let mut connection = self.adopted(
            (transition.netns, transition.sock),
            (role, role_assumed),
            origin,
            transition.old,
            (transition.local, transition.remote),
            transition.time,
        );
        connection.time_wait_kind = self.early_time_waits.take(transition.sock, transition.time);
        self.add(transition.sock, connection, observer);
        self.connections.place(transition.sock)
    }

    /// Before its first scan, a namespace holds connections older than the trace.
    fn origin_of_adopted(&self, netns: NetnsId) -> Origin {
        match self.namespaces.losses_at_scan(netns) {
            Some(_) => Origin::AfterLoss,
            None => Origin::Preexisting,
        }
    }

    fn adopted(
        &mut self,
        (netns, sock): (NetnsId, SockId),
        (role, role_assumed): (Role, bool),
        origin: Origin,
        state: TcpState,
        (local, remote): (SocketAddr, SocketAddr),
        time: Nanos,
    ) -> Connection {
        let established = !is_pending(state);
        // It was there before the last look at open files, or is not known to it.
        let holder = self.socket_owners.owner(sock, 0);
        let owner = match role {
            Role::Server => holder.or_else(|| self.listeners.owner(netns, local).cloned()),
            Role::Client => holder,
        };
        let key = self.row_key(netns, role, (local, remote), owner.as_deref());
        let row = self.row(key, established);
        let connection = Connection::new(netns, role, origin, state, (local, remote), time, row);
        Connection {
            role_assumed,
            owner,
            established,
            state_since_is_lower_bound: true,
            ..connection
        }
    }

    fn apply_transition(&mut self, transition: &Transition, observer: &mut impl Observer) {
        let Some(place) = self.reconcile_state(transition, observer) else {
            return;
        };
        let connection = self.connections.at(place);
        connection.learn_owner(transition, &self.listeners);
        observer.transition(transition, Some(connection));
        connection.last_transition = transition.time;
        connection.state_since_is_lower_bound = false;
        connection.missed_scans = 0;
        let gets_through =
            connection.enter(transition.new, self.ports.get_mut(connection.row), |connection| {
                let sent = (connection.origin == Origin::Observed).then_some(connection.first_seen);
                match transition.new {
                    TcpState::Established => handshake::measure(
                        connection.role,
                        transition,
                        sent,
                        connection.deferred_accept,
                    ),
                    // A Fast Open child that is closed before its handshake is through has no time.
                    _ => EVIDENCE_LOST,
                }
            });
        if gets_through {
            connection.established_at = Some(transition.time);
            observer.established(connection);
            let (netns, role, port) =
                (connection.netns, connection.role, connection.service_port());
            let ends = (connection.local(), connection.remote());
            self.ports.get_mut(connection.row).connects_from(connection);
            // A connection at the same ends takes the place of its TIME_WAIT.
            self.leave_time_wait(netns, ends, false);
            // From now on the port has a row of its own, if it had none.
            self.row(RowKey::of_port(netns, role, port), true);
        }
    }

    /// Makes the connection of a transition's socket agree with the transition's old state and its
    /// addresses, which a birth may not know yet. Returns where that connection is.
    fn reconcile_state(
        &mut self,
        transition: &Transition,
        observer: &mut impl Observer,
    ) -> Option<Slot> {
        let Some(place) = self.connections.place(transition.sock) else {
            return self.adopt_from(transition, observer);
        };
        let connection = self.connections.at(place);
        let goes_back = connection.established && is_pending(transition.old);
        let ends = (transition.local, transition.remote);
        let is_young = transition.old == TcpState::SynRecv;
        if goes_back || !connection.fits(transition.netns, ends, is_young) {
            // The socket's address is used anew: an end was lost, and a birth.
            self.gaps += 1;
            self.lose_sight(transition.sock, transition.time, observer);
            return self.adopt_from(transition, observer);
        }
        connection.learn_endpoints(transition.local, transition.remote);
        if connection.state != transition.old {
            self.gaps += 1;
            connection.enter(transition.old, self.ports.get_mut(connection.row), |_| EVIDENCE_LOST);
        }
        Some(place)
    }
}
