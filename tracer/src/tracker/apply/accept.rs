//! Time from the start of a connection to accept(): reported where a hook on accept() is attached, and
//! inferred from the lengths of accept queues elsewhere, see `accept_fifo.rs`.

use synfin_common::event::Flags;

use crate::{
    tcp::{coverage::OptionalHook, role::Role},
    trace::{
        event::{Accepted, Input, Transition},
        scan::ScannedSocket,
        time::Nanos,
    },
    tracker::{
        Connection, Tracker,
        accept_fifo::InferredAccept,
        change::Changes,
        connection::Origin,
        connections::Slot,
        counters::Counters,
        listeners::{Listener, Listeners},
        row_key::RowId,
        served::Served,
    },
};

impl Tracker {
    /// Applies the return of a connection by accept(). The connection waited since its first
    /// transition, at which the kernel puts a child into its listener's queue.
    pub(in crate::tracker) fn apply_accepted(&mut self, accepted: &Accepted) {
        let &Accepted { time, sock } = accepted;
        if !self.coverage.has(OptionalHook::AcceptWait) {
            return;
        }
        let Some(connection) = self.connections.get_mut(sock) else {
            return self.filter_event(sock, time, Input::Accepted(*accepted));
        };
        let is_measurable =
            connection.role == Role::Server && connection.origin == Origin::Observed;
        if is_measurable && !connection.flags.is_accepted() {
            connection.flags.set_is_accepted(true);
            let waited = time.saturating_sub(connection.first_seen) / 1000;
            self.rows.get_mut(connection.row).counters.accept_wait.add(waited);
        }
    }

    fn infers_accept_waits(&self) -> bool {
        !self.coverage.has(OptionalHook::AcceptWait)
    }

    /// Adds a new connection to the accept queue of its listener, with the length that it found.
    pub(super) fn enter_accept_queue(&mut self, opening: &Transition, row: RowId) {
        if !self.keeps_accept_queues {
            return;
        }
        let infers = self.infers_accept_waits();
        let losses = self.records.lost_openings();
        let served = Served::of(opening, opening);
        let counters = &mut self.rows.get_mut(row).counters;
        let Some(details) = &opening.opening else { return };
        if let Some(listener) = acceptor(&mut self.listeners, opening, served) {
            let found = (opening.time, details.accept_queue.depth);
            listener.accept_fifo.add(opening.sock, found, losses, |accept| {
                count(infers, counters, &mut self.changes, accept);
            });
        } else {
            self.listeners.note_unknown_birth(served, opening.time);
        }
    }

    /// The first record of a connection was lost, so the connections in the queue are not all known.
    pub(super) fn miss_accept_queue_entry(&mut self, connection: &Connection) {
        if connection.role == Role::Server {
            self.listeners.clear_accept_fifos(connection.netns, connection.service_port());
        }
    }

    /// A process acted on a connection, which it must have accepted before.
    pub(super) fn note_act(&mut self, transition: &Transition, slot: Slot) {
        let connection = &*self.connections.at(slot);
        let served = Served::from(connection);
        let &Connection { role, origin, first_seen, row, .. } = connection;
        if role != Role::Server || origin != Origin::Observed || !self.keeps_accept_queues {
            return;
        }
        let infers = self.infers_accept_waits();
        let counters = &mut self.rows.get_mut(row).counters;
        if let Some(listener) = acceptor(&mut self.listeners, transition, served) {
            let connection = (transition.sock, first_seen);
            listener.accept_fifo.on_act(connection, transition.time, |accept| {
                count(infers, counters, &mut self.changes, accept);
            });
        }
    }

    /// A new connection did not enter the accept queue: the kernel discarded it, or it has joined an
    /// MPTCP connection.
    pub(super) fn leave_accept_queue(&mut self, end: &Transition, served: Served, born: Nanos) {
        if let Some(listener) = acceptor(&mut self.listeners, end, served) {
            listener.accept_fifo.discard(end.sock, born);
        }
    }

    /// A scan found this number of connections in the accept queue of a listener.
    pub(super) fn note_scanned_accept_queue(&mut self, found: &ScannedSocket, row: RowId) {
        if !self.keeps_accept_queues {
            return;
        }
        let infers = self.infers_accept_waits();
        let losses = self.records.lost_openings();
        let counters = &mut self.rows.get_mut(row).counters;
        if let Some(listener) = self.listeners.get_mut(found.sock)
            && listener.listening_since <= found.time
        {
            let depth = (found.time, found.accept_queue.depth);
            listener.accept_fifo.on_scan(depth, losses, |accept| {
                count(infers, counters, &mut self.changes, accept);
            });
        }
    }
}

/// The listener of a connection with this record; `None` if it is unknown or ambiguous.
fn acceptor<'a>(
    listeners: &'a mut Listeners,
    record: &Transition,
    served: Served,
) -> Option<&'a mut Listener> {
    listeners.acceptor(served, record.flags.contains(Flags::IPV6))
}

/// Counts a wait for accept(), if it is known by inference only.
fn count(infers: bool, counters: &mut Counters, changes: &mut Changes, accept: InferredAccept) {
    if !infers {
        return;
    }
    let InferredAccept { born, after, by, at, .. } = accept;
    counters.accept_wait_at_least.add(after.saturating_sub(born) / 1000);
    counters.accept_wait_at_most.add(by.saturating_sub(born).div_ceil(1000));
    if let Some(at) = at {
        counters.accept_wait.add(at.saturating_sub(born) / 1000);
    }
    changes.accepted(accept);
}
