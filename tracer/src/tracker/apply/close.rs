//! Classifies and counts closes, if needed with evidence that follows the last transition.

use synfin_common::{event::Flags, state::TcpState};

use crate::{
    tcp::{
        close_reason::{Class, CloseReason, Phase},
        role::Role,
    },
    trace::{
        event::{Closing, Input, Reset, ResetDirection, Transition},
        ids::SockId,
        time::Nanos,
    },
    tracker::{
        Closed, Connection, IDLE_ENDS, Origin, Segments, Tracker,
        classify::{self, CloseOutcome, TimeWait},
        endpoints::Endpoints,
        pending_close::PendingClose,
        traffic::payload,
    },
};

/// Age below which a connection that the peer resets is short, as those of health checks are.
const EARLY_US: u64 = 1_000_000;

/// Age from which on a canceled attempt had waited for an answer: longer than most round trips.
const LATE: Nanos = 100_000_000;

impl Tracker {
    /// Classifies the pending closes up to this time, whose evidence would have arrived.
    pub(in crate::tracker) fn classify_until(&mut self, time: Nanos) {
        while let Some(pending) = self.pending_closes.take_due(time) {
            self.classify_pending(pending);
        }
    }

    pub(in crate::tracker) fn apply_reset(&mut self, reset: &Reset) {
        if let Some(connection) = self.connections.get_mut(reset.sock) {
            connection.note_reset(reset.direction);
            return;
        }
        if let ResetDirection::Sent { .. } = reset.direction
            && let Some(mut pending) = self.pending_closes.take(reset.sock)
        {
            pending.connection.note_reset(reset.direction);
            return self.classify_pending(pending);
        }
        self.filter_event(reset.sock, reset.time, Input::Reset(*reset));
    }

    pub(in crate::tracker) fn close_connection(&mut self, transition: &Transition) {
        let slot = self.reconcile_state(transition);
        if let Some(slot) = slot
            && transition.pid.is_some()
            && transition.flags.contains(Flags::HAS_SOCKET)
        {
            self.note_act(transition, slot);
        }
        let sibling_reset =
            slot.and_then(|slot| self.connections.sibling_reset(slot, transition.time));
        let Some(mut connection) = slot.map(|slot| self.connections.remove_at(slot)) else {
            return;
        };
        if let Some(reason) = sibling_reset {
            connection.note_sibling_reset(reason);
        }
        if transition.flags.contains(Flags::MPTCP) {
            connection.flags.set_is_subflow(true);
        }
        connection.learn_owner(transition, &self.listeners, &self.socket_owners);
        self.changes.transition(transition, Some(&connection), &self.names);
        self.count_segments(&connection, transition);
        if let Some(scan) = &mut self.scan {
            scan.closed(transition);
        }
        let history = connection.close_evidence();
        let outcome = classify::classify(transition, history);
        let awaits_reset = classify::awaits_reset(transition, history);
        let time_wait = outcome.time_wait();
        if time_wait.is_entered() {
            self.enter_time_wait(transition, &connection, time_wait, awaits_reset);
        } else if time_wait == TimeWait::Unconfirmed
            && let Some(row) = self.rows.key(connection.row)
        {
            // Added at once: if the table was full, the kernel has already counted the overflow.
            self.time_waits.unconfirmed.add(row, connection.netns, transition.time);
        }
        if awaits_reset {
            self.pending_closes.insert(PendingClose {
                end: transition.clone(),
                connection,
                time_wait,
            });
        } else {
            self.record_outcome(transition, &connection, outcome);
        }
    }

    /// Classifies a pending close of this socket, because no more evidence about it can arrive.
    pub(in crate::tracker) fn classify_previous(&mut self, sock: SockId) {
        if let Some(pending) = self.pending_closes.take(sock) {
            self.classify_pending(pending);
        }
    }

    /// Counts a pending close by the available evidence.
    fn classify_pending(&mut self, pending: PendingClose) {
        let PendingClose { end, connection, time_wait: assumed } = pending;
        let outcome = classify::classify(&end, connection.close_evidence());
        if assumed.is_entered() {
            if !outcome.time_wait().is_entered() {
                self.leave_time_wait(connection.netns, Endpoints::from(&end), end.time, false);
            }
            self.rows.get_mut(connection.row).time_waits.end_provisional();
        } else if assumed == TimeWait::Unconfirmed
            && outcome.time_wait() != TimeWait::Unconfirmed
            && let Some(row) = self.rows.key(connection.row)
        {
            self.time_waits.unconfirmed.remove(row, connection.netns, end.time);
        }
        self.record_outcome(&end, &connection, outcome);
    }

    fn record_outcome(&mut self, end: &Transition, connection: &Connection, outcome: CloseOutcome) {
        let row = self.rows.get_mut(connection.row);
        if let Some(owner) = &connection.owner {
            row.note_process(owner);
        }
        let (reason, time_wait) = match outcome {
            CloseOutcome::Closed(reason, time_wait) => (reason, time_wait),
            CloseOutcome::Discarded => {
                row.gauges.leave(connection.state);
                row.gauges.pending -= 1;
                row.counters.discarded += 1;
                return self.leave_accept_queue(end, connection.into(), connection.first_seen);
            }
        };
        match time_wait {
            TimeWait::Entered | TimeWait::InFinWait2 => row.counters.time_wait_entered += 1,
            TimeWait::Overflowed => row.counters.time_wait_overflowed += 1,
            // Unconfirmed ones are counted once the kernel's counter is known.
            TimeWait::Unconfirmed | TimeWait::None => {}
        }
        self.record_close(connection, reason, time_wait, Some(end), end.time);
    }

    /// Closes the connection of a socket that was reused, if there is one: the record of its close was
    /// lost.
    pub(super) fn close_reused(&mut self, sock: SockId, time: Nanos) {
        if self.connections.get(sock).is_some() {
            self.records.gaps += 1;
            self.close_missing(sock, time);
        }
    }

    /// Closes the connection of a socket that disappeared without a record, if there is one.
    pub(in crate::tracker) fn close_missing(&mut self, sock: SockId, time: Nanos) {
        if let Some(connection) = self.connections.remove(sock) {
            self.close_unobserved(&connection, time);
        }
    }

    pub(in crate::tracker) fn close_unobserved(&mut self, connection: &Connection, time: Nanos) {
        let reason = if connection.flags.is_established() {
            CloseReason::LostSight
        } else {
            CloseReason::ConnectLostSight
        };
        self.record_close(connection, reason, TimeWait::None, None, time);
    }

    /// Notes the reset of a subflow, which may be followed by those of the others.
    fn note_subflow_reset(&mut self, connection: &Connection, reason: CloseReason, time: Nanos) {
        let is_reset = matches!(
            reason,
            CloseReason::ResetByPeer
                | CloseReason::ResetByUsUnreadData
                | CloseReason::ResetByUsLinger0
                | CloseReason::ResetByUsDisconnect
        );
        if let Some(id) = connection.mptcp()
            && is_reset
        {
            self.connections.note_subflow_reset(id, time, reason);
        }
    }

    /// Notes what the end of a client's connection tells about resets from ports without a row.
    fn note_ports(&mut self, connection: &Connection, reason: CloseReason, time: Nanos) {
        if connection.role == Role::Server {
            return;
        }
        let (local, remote) = (connection.local(), connection.remote());
        self.closed_ports.note_client(connection.netns, local.port(), time);
        let is_here = remote.ip().is_loopback() || remote.ip() == local.ip();
        if reason == CloseReason::ConnectRefusedRst && is_here {
            self.closed_ports.note_refused(connection.netns, remote.port());
        }
    }

    fn record_close(
        &mut self,
        connection: &Connection,
        reason: CloseReason,
        time_wait: TimeWait,
        end: Option<&Transition>,
        time: Nanos,
    ) {
        debug_assert_eq!(connection.flags.is_established(), reason.phase() == Phase::Established);
        let closing = end.and_then(|end| end.closing);
        let us = |ms: fn(Closing) -> Option<u32>| Some(u64::from(ms(closing?)?) * 1000);
        let idle_us = us(|closing| closing.idle_ms);
        let is_observed = connection.origin == Origin::Observed;
        let (sent, received) = end.map_or((None, None), |end| bytes(end, connection.role));

        self.note_subflow_reset(connection, reason, time);
        self.note_ports(connection, reason, time);
        let row = self.rows.get_mut(connection.row);
        row.gauges.leave(connection.state);
        row.counters.close(reason, connection.state, time);
        if connection.flags.is_established() {
            row.gauges.open -= 1;
            row.gauges.preexisting -= u64::from(connection.is_preexisting());
            let lifetime_us = time.saturating_sub(connection.first_seen) / 1000;
            // A failed attempt has received no segment that idle time could start with.
            if let (Some(idle_us), Some(end)) = (idle_us, end) {
                row.counters.idle.add(idle_us);
                if reason.class() == Class::Abnormal {
                    let idle_us = idle_before_unanswered(idle_us, end, reason);
                    row.counters.idle_abnormal.add(idle_us);
                    if IDLE_ENDS.contains(&reason) {
                        row.counters.idle_cut.add(idle_us);
                    }
                }
            }
            if let Some(end) = end {
                if end.rtt_us > 0 {
                    row.counters.rtt.add(end.rtt_us.into());
                }
                let segments = Segments::at_end(end, connection.handshake);
                row.counters.retransmitting += u64::from(segments.retransmitted > 0);
            }
            if reason == CloseReason::ResetByPeer {
                // What was sent and not acknowledged is no longer there to be seen.
                let is_early = is_observed && received == Some(0) && lifetime_us < EARLY_US;
                row.counters.reset_early += u64::from(is_early);
                row.counters.reset_after_fin += u64::from(connection.state == TcpState::CloseWait);
            }
            if is_observed && end.is_some() {
                row.counters.lifetime.add(lifetime_us);
            }
        } else {
            row.gauges.pending -= 1;
            let is_late = time.saturating_sub(connection.first_seen) >= LATE;
            let is_cancelled = reason == CloseReason::ConnectCancelled && is_observed;
            row.counters.cancelled_late += u64::from(is_late && is_cancelled);
        }
        row.counters.bytes_sent = row.counters.bytes_sent.saturating_add(sent.unwrap_or(0));
        row.counters.bytes_received =
            row.counters.bytes_received.saturating_add(received.unwrap_or(0));

        self.changes.closed(|| Closed {
            role: connection.role,
            netns: connection.netns,
            netns_inode: self.names.inode(connection.netns),
            local: connection.local(),
            remote: connection.remote(),
            service_port: connection.service_port(),
            reason,
            origin: connection.origin,
            opened: is_observed.then_some(connection.first_seen),
            since: connection.first_seen,
            closed: time,
            handshake: connection.handshake,
            time_wait: match time_wait {
                TimeWait::Entered | TimeWait::InFinWait2 => Some(true),
                TimeWait::None | TimeWait::Overflowed => Some(false),
                TimeWait::Unconfirmed => None,
            },
            idle_us: idle_us.filter(|_| connection.flags.is_established()),
            rtt_us: end.map(|end| end.rtt_us).filter(|&us| us > 0),
            min_rtt_us: closing.and_then(|closing| closing.min_rtt_us),
            retransmits: end.map(|end| end.total_retransmits),
            owner: connection.owner.clone(),
            is_subflow: connection.is_subflow(),
            mptcp: connection.mptcp(),
            bytes_sent: sent,
            bytes_received: received,
            window_limited_us: us(|closing| closing.window_limited_ms),
            buffer_limited_us: us(|closing| closing.buffer_limited_ms),
        });
    }
}

/// The time from the last received segment to the first one that was sent and never answered, in
/// microseconds, from the time to the close; 0 if it is too short to be certain.
///
/// The kernel waits for the retransmission timeout, at least `TCP_RTO_MIN` more than the round trip, and
/// twice as long after each retransmission, up to `TCP_RTO_MAX` (`net/ipv4/tcp_timer.c`). Where the
/// round-trip time varies, it waits longer than that.
fn idle_before_unanswered(idle_us: u64, end: &Transition, reason: CloseReason) -> u64 {
    const RTO_MIN_US: u64 = 200_000;
    const RTO_MAX_US: u64 = 120_000_000;
    if end.retransmits == 0 {
        return idle_us;
    }
    let first = RTO_MIN_US + u64::from(end.rtt_us).min(RTO_MAX_US);
    let wait = |nth: u8| first.saturating_mul(1 << nth.min(32)).min(RTO_MAX_US);
    let waits = if reason == CloseReason::ResetByPeer {
        0..end.retransmits
    } else {
        0..end.retransmits.saturating_add(1)
    };
    let waited: u64 = waits.map(wait).sum();
    let idle_us = idle_us.saturating_sub(waited);
    if idle_us > waited / 5 { idle_us } else { 0 }
}

/// Payload bytes sent and received.
fn bytes(end: &Transition, role: Role) -> (Option<u64>, Option<u64>) {
    let Some(closing) = end.closing else {
        return (None, None);
    };
    let our_fin_acknowledged = match end.old {
        TcpState::FinWait2 => true,
        TcpState::LastAck | TcpState::Closing => end.err == 0,
        _ => false,
    };
    let fin_received = end.flags.contains(Flags::FIN_RECEIVED);
    let space = (closing.bytes_acked, closing.bytes_received);
    let (sent, received) = payload(space, role, our_fin_acknowledged, fin_received);
    (sent, Some(received))
}
