//! The heart: from transitions and walks to the books per port. Pure: no clock, no I/O, no lock,
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

mod admission;
pub mod close;
pub mod columns;
mod connections;
mod gate;
mod handshake;
mod listeners;
mod machine;
mod namespaces;
mod owners;
mod ports;
mod quantiles;
mod snapshot;
mod time_wait;
mod walk;

use std::net::SocketAddr;

use synfin_common::{event::Flags, state::TcpState};

pub use connections::{Life, Origin};
pub use handshake::{Handshake, Unmeasured};
pub use machine::{OPEN_STATES, Role, STATES};
pub use owners::Owner;
pub use ports::{Counters, Gauges, Label, RowKey, Walked};
pub use quantiles::Durations;
pub use snapshot::{By, Common, Events, RowSnapshot, Snapshot, Tables};

use close::{CloseReason, Outcome, Past, TimeWait, Verdict};
use connections::Connections;
use gate::Gate;
use listeners::{Listener, Listeners};
use machine::Step;
use namespaces::Namespaces;
use owners::{Held, KnownNames};
use ports::{Ports, RowId};
use time_wait::TimeWaitRows;

use crate::{
    filter::Filter,
    input::{self, Input, Nanos, NetnsId, SockId, Tick, Transition},
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
    /// It left a TIME_WAIT.
    pub time_wait: bool,
    /// Microseconds since the last segment was received.
    pub idle_us: Option<u64>,
    /// The owning process.
    pub owner: Option<Owner>,
    /// Bytes that the peer acknowledged.
    pub bytes_sent: Option<u64>,
    /// Bytes received.
    pub bytes_received: Option<u64>,
}

/// Who wants to know of each thing as it happens. The tracker's books do not depend on it.
pub trait Observer {
    /// A socket changed its state. `life` is what is known of the connection up to then, its
    /// state still the old one; `None` for a listener.
    fn transition(&mut self, _transition: &Transition, _life: Option<&Life>) {}
    /// A handshake got through.
    fn established(&mut self, _life: &Life) {}
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
    gate: Gate,
    names: KnownNames,
    held: Held,
    time_wait_rows: TimeWaitRows,
    /// The walk that goes on, unless it is being worked on.
    walk: Option<walk::Walk>,
    walking: bool,
    walks: u32,
    namespaces: Namespaces,
    now: Nanos,
    interval_start: Nanos,
    kernel: input::Counters,
    /// Records that reached us, whatever became of them.
    received: u64,
    unreadable: u64,
    gaps: u64,
    /// The events up to the last cut.
    events_cut: Events,
}

impl Tracker {
    /// Begins at `start`.
    pub fn new(limits: Limits, start: Nanos) -> Self {
        Self {
            connections: Connections::new(limits.connections),
            ports: Ports::new(limits.rows),
            listeners: Listeners::default(),
            gate: Gate::default(),
            names: KnownNames::default(),
            held: Held::default(),
            time_wait_rows: TimeWaitRows::default(),
            walk: None,
            walking: false,
            walks: 0,
            namespaces: Namespaces::default(),
            now: start,
            interval_start: start,
            kernel: input::Counters::default(),
            received: 0,
            unreadable: 0,
            gaps: 0,
            events_cut: Events::default(),
        }
    }

    /// What one of these excludes is not in the books.
    #[must_use]
    pub fn with_filters(self, filters: Vec<Filter>) -> Self {
        Self { gate: Gate::new(filters), ..self }
    }

    /// Takes one piece of input.
    pub fn ingest(&mut self, input: &Input, observer: &mut impl Observer) {
        match input {
            Input::Transition(transition) => {
                self.received += 1;
                self.now = self.now.max(transition.time);
                self.namespaces.change(transition.netns, transition.time);
                if self.gate.is_open() {
                    self.transition(transition, observer);
                } else {
                    self.at_gate(transition, observer);
                }
            }
            Input::ResetReceived { time, sock } => {
                self.received += 1;
                self.now = self.now.max(*time);
                self.reset_received(*time, *sock);
            }
            Input::Holders(holders) => self.look_at_holders(holders, observer),
            Input::Names(names) => self.names.learn(names),
            Input::WalkBegin(begin) => self.walk_begins(begin),
            Input::Socket(socket) => self.walked_socket(socket, observer),
            Input::TimeWait(time_wait) => self.walked_time_wait(time_wait),
            Input::WalkEnd(end) => self.walk_ends(end, observer),
            Input::Tick(tick) => self.tick(tick),
            Input::UnreadableRecord => {
                self.received += 1;
                self.unreadable += 1;
            }
            Input::UnreadableSocket => self.walk_is_unreadable(),
        }
    }

    fn tick(&mut self, tick: &Tick) {
        self.now = self.now.max(tick.time);
        // What is counted only grows, whatever a damaged recording says.
        let known = &mut self.kernel;
        let input::Counters { seen, lost, filtered, missed } = &tick.counters;
        known.missed = known.missed.max(*missed);
        for (known, new) in
            [(&mut known.seen, seen), (&mut known.lost, lost), (&mut known.filtered, filtered)]
        {
            known.iter_mut().zip(new).for_each(|(known, new)| *known = (*known).max(*new));
        }
    }

    /// No more input comes: what a filter has not decided is left out.
    pub fn finish(&mut self) {
        self.gate.close();
    }

    fn reset_received(&mut self, time: Nanos, sock: SockId) {
        match self.connections.get_mut(sock) {
            Some(life) => life.reset_received = true,
            None => self.reset_at_gate(time, sock),
        }
    }

    /// The living connections.
    pub fn open(&self) -> impl Iterator<Item = (SockId, &Life)> {
        self.connections.iter()
    }

    /// The time of the latest input.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// Whether a walk over the namespace could show anything new: it was never walked, something
    /// happened in it since, or events were lost.
    pub fn wants_walk(&self, netns: NetnsId) -> bool {
        self.gate.may_be_in(netns) && self.namespaces.wants_walk(netns, self.losses())
    }

    /// Records that are known not to have reached us, one way or another.
    fn losses(&self) -> u64 {
        let events = self.events();
        [events.lost, events.missed, events.gaps, events.unreadable]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    fn transition(&mut self, transition: &Transition, observer: &mut impl Observer) {
        match Step::of(transition.old, transition.new) {
            Step::Listens => {
                observer.transition(transition, None);
                self.listens(transition);
            }
            Step::StopsListening => {
                observer.transition(transition, None);
                self.stops_listening(transition.sock);
                if let Some(walk) = &mut self.walk {
                    walk.closed(transition);
                }
            }
            Step::Birth(role) => self.birth(transition, role, observer),
            Step::Onward => self.onward(transition, observer),
            Step::End => self.end(transition, observer),
        }
    }

    /// The row to book on.
    fn row(&mut self, key: RowKey, proven: bool) -> RowId {
        // A walk holds rows in which nothing may live yet.
        let may_retire = !self.walking;
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
                owner: owner.and_then(|owner| self.ports.label(Label::from(owner))),
                remote: Some(remote.ip()),
                ..key
            },
        }
    }

    fn listens(&mut self, transition: &Transition) {
        let (netns, local) = (transition.netns, transition.local);
        self.row(RowKey::of_port(netns, Role::Server, local.port()), true);
        let listener = Listener {
            netns,
            local,
            owner: self.names.owner_at_birth(transition),
            holders: Vec::new(),
            looked_at: 0,
            cgroup: transition.opening.as_ref().map_or(0, |opening| opening.cgroup),
            since: transition.time,
            seen: transition.time,
            met_by: 0,
            absent: 0,
        };
        self.listeners.insert(transition.sock, listener);
    }

    /// A listener is gone; its row remembers whose it was.
    fn stops_listening(&mut self, sock: SockId) {
        let Some(listener) = self.listeners.remove(sock) else {
            return;
        };
        let key = RowKey::of_port(listener.netns, Role::Server, listener.local.port());
        if let Some(row) = self.ports.find(key)
            && !self.listeners.is_served(listener.netns, listener.local.port())
        {
            let row = self.ports.get_mut(row);
            row.owners.clear();
            listener.labels().into_iter().for_each(|label| row.own(label));
        }
    }

    fn birth(&mut self, transition: &Transition, role: Role, observer: &mut impl Observer) {
        if self.connections.get(transition.sock).is_some() {
            // The socket's address is used anew, so we missed how its last life ended.
            self.gaps += 1;
            self.lose(transition.sock, transition.time, observer);
        }
        let opening = transition.opening.as_ref();
        let owner = match role {
            Role::Client => self.names.owner_at_birth(transition),
            Role::Server => self.listeners.owner(transition.netns, transition.local).cloned(),
        };
        let ends = (transition.local, transition.remote);
        let key = self.row_key(transition.netns, role, ends, owner.as_ref());
        let row = self.row(key, role == Role::Server);
        let mut life = Life {
            netns: transition.netns,
            role,
            role_assumed: false,
            origin: Origin::Born,
            state: transition.old,
            local: transition.local,
            remote: transition.remote,
            since: transition.time,
            changed: transition.time,
            established_at: None,
            handshake: None,
            owner,
            established: false,
            deferred_accept: transition.flags.contains(Flags::DEFER_ACCEPT),
            handed_on: false,
            reset_received: false,
            row,
            met_by: 0,
            absent: 0,
        };
        observer.transition(transition, Some(&life));
        life.state = transition.new;
        if let (Role::Server, Some(opening)) = (role, opening) {
            let row = self.ports.get_mut(row);
            row.accept_peak = row.accept_peak.max(opening.accept_queue.0.into());
        }
        self.add(transition.sock, life, observer);
    }

    /// Puts a life into the table and on the books.
    fn add(&mut self, sock: SockId, life: Life, observer: &mut impl Observer) {
        let row = self.ports.get_mut(life.row);
        if life.established {
            row.interval.adopted += 1;
            row.gauges.open += 1;
        } else {
            row.interval.attempts += 1;
            row.gauges.pending += 1;
        }
        row.gauges.enter(life.state);
        if let Some(owner) = &life.owner {
            row.own(Label::from(owner));
        }
        if let Some(evicted) = self.connections.insert(sock, life) {
            let time = self.now;
            self.end_unseen(evicted, time, observer);
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

    /// Takes up a connection in the middle of its life, at the old state of its first record.
    fn adopt_from(&mut self, transition: &Transition, observer: &mut impl Observer) {
        let origin = self.origin_of_adopted(transition.netns);
        if origin == Origin::AfterLoss {
            self.gaps += 1;
        }
        let (role, role_assumed) = match transition.old {
            TcpState::SynSent => (Role::Client, false),
            _ => self.role_of(transition.netns, (transition.local, transition.remote), None),
        };
        let life = self.adopted(
            (transition.netns, transition.sock),
            (role, role_assumed),
            origin,
            transition.old,
            (transition.local, transition.remote),
            transition.time,
        );
        self.add(transition.sock, life, observer);
    }

    /// Before its first walk, a namespace holds connections older than the trace.
    fn origin_of_adopted(&self, netns: NetnsId) -> Origin {
        match self.namespaces.losses_at_walk(netns) {
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
    ) -> Life {
        let established = !machine::is_pending(state);
        // It was there before the last look at open files, or is not known to it.
        let holder = self.held.owner(sock, 0);
        let owner = match role {
            Role::Server => holder.or_else(|| self.listeners.owner(netns, local).cloned()),
            Role::Client => holder,
        };
        let key = self.row_key(netns, role, (local, remote), owner.as_ref());
        let row = self.row(key, established);
        Life {
            netns,
            role,
            role_assumed,
            origin,
            state,
            local,
            remote,
            since: time,
            changed: time,
            established_at: None,
            handshake: None,
            owner,
            established,
            deferred_accept: false,
            handed_on: false,
            reset_received: false,
            row,
            met_by: 0,
            absent: 0,
        }
    }

    fn onward(&mut self, transition: &Transition, observer: &mut impl Observer) {
        self.bring_up_to(transition, observer);
        let Some(life) = self.connections.get_mut(transition.sock) else {
            return;
        };
        life.learn_owner(transition, &self.listeners);
        observer.transition(transition, Some(life));
        life.changed = transition.time;
        life.absent = 0;
        let gets_through = life.enter(transition.new, self.ports.get_mut(life.row), |life| {
            let sent = (life.origin == Origin::Born).then_some(life.since);
            match transition.new {
                TcpState::Established => {
                    handshake::measure(life.role, transition, sent, life.deferred_accept)
                }
                // A Fast Open child that is closed before its handshake is through has no time.
                _ => EVIDENCE_LOST,
            }
        });
        if gets_through {
            life.established_at = Some(transition.time);
            observer.established(life);
            let (netns, role, port) = (life.netns, life.role, life.service_port());
            // From now on the port has a row of its own, if it had none.
            self.row(RowKey::of_port(netns, role, port), true);
        }
    }

    /// Makes the life of a transition's socket agree with the transition's old state and its
    /// addresses, which a birth may not know yet.
    fn bring_up_to(&mut self, transition: &Transition, observer: &mut impl Observer) {
        let Some(life) = self.connections.get_mut(transition.sock) else {
            return self.adopt_from(transition, observer);
        };
        let goes_back = life.established && machine::is_pending(transition.old);
        if goes_back || !life.fits(transition.netns, transition.local, transition.remote) {
            // The socket's address is used anew: an end was lost, and a birth.
            self.gaps += 1;
            self.lose(transition.sock, transition.time, observer);
            return self.adopt_from(transition, observer);
        }
        life.learn_ends(transition.local, transition.remote);
        if life.state != transition.old {
            self.gaps += 1;
            life.enter(transition.old, self.ports.get_mut(life.row), |_| EVIDENCE_LOST);
        }
    }

    fn end(&mut self, transition: &Transition, observer: &mut impl Observer) {
        self.bring_up_to(transition, observer);
        let Some(mut life) = self.connections.remove(transition.sock) else {
            return;
        };
        life.learn_owner(transition, &self.listeners);
        observer.transition(transition, Some(&life));
        let past = Past {
            role: life.role,
            established: life.established,
            reset_received: life.reset_received,
        };
        if let Some(walk) = &mut self.walk {
            walk.closed(transition);
        }
        match close::classify(transition, past) {
            Verdict::Discarded => {
                let row = self.ports.get_mut(life.row);
                row.gauges.leave(life.state);
                row.gauges.pending -= 1;
                row.interval.discarded += 1;
            }
            Verdict::Ended(reason, time_wait) => {
                self.book_time_wait(transition, &life, time_wait);
                self.book_end(life, reason, time_wait, Some(transition), transition.time, observer);
            }
        }
    }

    fn book_time_wait(&mut self, end: &Transition, life: &Life, time_wait: TimeWait) {
        let row = self.ports.get_mut(life.row);
        match time_wait {
            TimeWait::None => {}
            TimeWait::Overflowed => row.interval.time_wait_overflowed += 1,
            TimeWait::Entered => {
                row.interval.time_wait_entered += 1;
                row.time_waits.enter(life.netns, end.time);
                // A walk may know better than a guess.
                if !life.role_assumed {
                    let ends = (end.local, end.remote);
                    self.time_wait_rows.enter(life.netns, ends, life.row, self.walks);
                }
                if let Some(walk) = &mut self.walk {
                    walk.entered_time_wait(end, life.row);
                }
            }
        }
    }

    /// Ends the life of a socket that is gone without a record.
    fn lose(&mut self, sock: SockId, time: Nanos, observer: &mut impl Observer) {
        if let Some(life) = self.connections.remove(sock) {
            self.end_unseen(life, time, observer);
        }
    }

    fn end_unseen(&mut self, life: Life, time: Nanos, observer: &mut impl Observer) {
        let reason =
            if life.established { CloseReason::LostSight } else { CloseReason::ConnectLostSight };
        self.book_end(life, reason, TimeWait::None, None, time, observer);
    }

    fn book_end(
        &mut self,
        life: Life,
        reason: CloseReason,
        time_wait: TimeWait,
        end: Option<&Transition>,
        time: Nanos,
        observer: &mut impl Observer,
    ) {
        debug_assert_eq!(life.established, reason.outcome() == Outcome::Closed);
        let closing = end.and_then(|end| end.closing);
        let idle_us = closing.and_then(|closing| closing.idle_ms).map(|ms| u64::from(ms) * 1000);
        let born = life.origin == Origin::Born;
        let (sent, received) = end.map_or((None, None), |end| bytes(end, life.role));

        let row = self.ports.get_mut(life.row);
        row.gauges.leave(life.state);
        if life.established {
            row.gauges.open -= 1;
            // Failed attempts have received nothing to be idle since, and have no life to speak of.
            if let (Some(idle_us), Some(_)) = (idle_us, end) {
                row.interval.idle.add(idle_us);
            }
            if born && end.is_some() {
                row.interval.lifetime.add(time.saturating_sub(life.since) / 1000);
            }
        } else {
            row.gauges.pending -= 1;
        }
        row.interval.end(reason);
        row.interval.bytes_sent = row.interval.bytes_sent.saturating_add(sent.unwrap_or(0));
        row.interval.bytes_received =
            row.interval.bytes_received.saturating_add(received.unwrap_or(0));

        observer.closed(&Closed {
            role: life.role,
            role_assumed: life.role_assumed,
            netns: life.netns,
            local: life.local,
            remote: life.remote,
            service_port: life.service_port(),
            reason,
            origin: life.origin,
            opened: born.then_some(life.since),
            since: life.since,
            closed: time,
            handshake: life.handshake,
            time_wait: time_wait == TimeWait::Entered,
            idle_us: idle_us.filter(|_| life.established),
            owner: life.owner,
            bytes_sent: sent,
            bytes_received: received,
        });
    }
}

/// Payload sent and received. The kernel counts sequence space: a client's SYN and either FIN are
/// one each.
fn bytes(end: &Transition, role: Role) -> (Option<u64>, Option<u64>) {
    let Some(closing) = end.closing else {
        return (None, None);
    };
    let our_fin_acknowledged = match end.old {
        TcpState::FinWait2 => true,
        TcpState::LastAck | TcpState::Closing => end.err == 0,
        _ => false,
    };
    let syn = u64::from(role == Role::Client);
    let sent = closing.bytes_acked.saturating_sub(syn + u64::from(our_fin_acknowledged));
    let fin_received = end.flags.contains(Flags::FIN_RECEIVED);
    let received = closing.bytes_received.saturating_sub(fin_received.into());
    (Some(sent), Some(received))
}
