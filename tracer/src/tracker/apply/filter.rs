//! Applies the filters to records and scans, by the known facts about a socket.

use synfin_common::state::TcpState;

use crate::{
    tcp::{role::Role, transition::TransitionKind},
    trace::{
        event::{Input, Transition},
        ids::{NetnsId, SockId},
        scan::ScannedSocket,
        time::Nanos,
    },
    tracker::{
        Tracker, connection::Origin, endpoints::Endpoints, filter_evidence::FilterEvidence,
        undecided::Decision,
    },
};

impl Tracker {
    /// Applies a transition, filters it, or holds it until the filters and the role can be decided.
    /// Held records of its socket are applied first.
    pub(in crate::tracker) fn filter_transition(&mut self, transition: &Transition) {
        let sock = transition.sock;
        let kind = TransitionKind::of(transition.old, transition.new);
        match kind {
            TransitionKind::Listen | TransitionKind::CloseListener => {
                return self.filter_listener(transition);
            }
            TransitionKind::Open(_) => {
                self.settle_previous(sock);
                self.close_reused(sock, transition.time);
            }
            TransitionKind::Change | TransitionKind::Close if self.is_tracked(transition) => {
                return self.transition(transition);
            }
            TransitionKind::Change | TransitionKind::Close => {
                self.close_reused(sock, transition.time);
                if !self.is_held_connection(sock, transition.netns, transition.into()) {
                    self.settle_previous(sock);
                }
            }
        }
        let evidence = self.evidence(transition);
        let outcome = match self.undecided.decision(sock) {
            Decision::Excluded => Some(false),
            _ => self.undecided.judge(&evidence.facts()),
        };
        let awaits_scan = self.undecided.has_room(sock)
            && self.may_scan_decide(outcome, evidence.role, transition.netns);
        if let (TransitionKind::Close, Some(scan)) = (kind, &mut self.scan) {
            scan.closed(transition);
        }
        match outcome {
            Some(true) if !awaits_scan => {
                self.admit(sock, evidence.role);
                self.apply_admitted(transition, evidence.role);
            }
            // The last record did not decide the filters, and no further one will.
            Some(false) if kind == TransitionKind::Close => {
                self.undecided.forget(sock);
                self.undecided.count_filtered();
            }
            None if kind == TransitionKind::Close && !awaits_scan => {
                self.undecided.forget(sock);
                self.undecided.count_filtered();
            }
            Some(false) => {
                self.undecided.exclude(sock, transition.netns, transition.time);
                self.undecided.count_filtered();
            }
            None | Some(true) => {
                let record = Input::Transition(transition.clone());
                let origin = self.origin_of_adopted(transition.netns);
                self.undecided.hold(sock, (transition.netns, origin), transition.time, record);
            }
        }
    }

    /// Applies a transition of a listener. Filtered listeners are tracked too, because they
    /// determine the owners of connections.
    fn filter_listener(&mut self, transition: &Transition) {
        let known = self.listeners.get(transition.sock);
        let pids = match known {
            Some(listener) => listener.pids(),
            None => transition.pid.into_iter().collect(),
        };
        let evidence = FilterEvidence {
            netns: transition.netns,
            role: Role::Server,
            local: transition.local,
            remote: transition.remote,
            listener_port: None,
            all_pids: !pids.is_empty(),
            pids,
            cgroup: known.map_or_else(
                || self.cgroup_of_opening(transition),
                |listener| self.cgroup_of_record(Some(listener.cgroup)),
            ),
        };
        match self.undecided.judge(&evidence.facts()) {
            Some(true) => self.transition(transition),
            Some(false) | None => {
                self.undecided.count_filtered();
                self.apply_listener(transition);
            }
        }
    }

    /// Applies the held records of a socket, whose connection has this role.
    fn admit(&mut self, sock: SockId, role: Role) {
        let origin = self.undecided.origin(sock);
        let first = self.undecided.decision(sock).first_transition().cloned();
        let records = self.undecided.admit(sock);
        if let Some(first) = &first
            && !matches!(TransitionKind::of(first.old, first.new), TransitionKind::Open(_))
            && self.connections.get(sock).is_none()
        {
            self.adopt_from(first, role, origin);
        }
        for record in &records {
            match record {
                Input::Transition(transition) => self.apply_admitted(transition, role),
                _ => self.apply_event(record),
            }
        }
    }

    /// Applies a transition of a connection that has this role.
    fn apply_admitted(&mut self, transition: &Transition, role: Role) {
        match TransitionKind::of(transition.old, transition.new) {
            TransitionKind::Open(_) => self.open_connection(transition, role),
            _ => self.transition(transition),
        }
    }

    fn apply_event(&mut self, record: &Input) {
        match record {
            Input::Reset(reset) => self.apply_reset(reset),
            Input::TimeWaitEntry(entry) => self.apply_time_wait_entry(entry),
            Input::Accepted(accepted) => self.apply_accepted(accepted),
            Input::TimeWaitChange(change) => self.apply_time_wait_change(change),
            _ => unreachable!("only events of hooks are held"),
        }
    }

    /// Holds or filters a record, other than a transition, of a socket that is not tracked.
    pub(super) fn filter_event(&mut self, sock: SockId, time: Nanos, record: Input) {
        match self.undecided.decision(sock) {
            Decision::Waiting(..)
                if self.undecided.admits_everything() && !self.undecided.has_room(sock) =>
            {
                self.settle(sock);
                self.apply_event(&record);
            }
            Decision::Waiting(_, netns) => {
                let origin = self.origin_of_adopted(netns);
                self.undecided.hold(sock, (netns, origin), time, record);
            }
            Decision::Unknown if self.undecided.admits_everything() => {}
            Decision::Excluded | Decision::Unknown => self.undecided.count_filtered(),
        }
    }

    /// Whether to adopt a connection that a scan found and that is not tracked. Its held records
    /// are applied first.
    pub(in crate::tracker) fn admits_scanned(
        &mut self,
        netns: NetnsId,
        scan: u32,
        socket: &ScannedSocket,
    ) -> bool {
        if self.undecided.admits_everything() && self.undecided.is_empty() {
            return true;
        }
        if !self.is_held_connection(socket.sock, netns, socket.into()) {
            if self.last_held(socket.sock).is_some_and(|last| last.time > socket.time) {
                return false;
            }
            self.settle_previous(socket.sock);
        }
        let role = self.role_of_scanned(netns, socket);
        if !self.undecided.on_scan(socket.sock, scan, socket.time, role) {
            return false;
        }
        let evidence = match self.undecided.decision(socket.sock) {
            Decision::Excluded => return false,
            Decision::Waiting([Input::Transition(first), ..], _) => {
                let (local, remote) = (socket.local, socket.remote);
                match self.evidence(first) {
                    FilterEvidence { role: Role::Unknown, .. } => {
                        self.scanned_evidence(netns, socket)
                    }
                    evidence => FilterEvidence { local, remote, ..evidence },
                }
            }
            _ => self.scanned_evidence(netns, socket),
        };
        match self.undecided.judge(&evidence.facts()) {
            Some(true) => {
                self.admit(socket.sock, evidence.role);
                true
            }
            Some(false) => {
                self.undecided.exclude(socket.sock, netns, socket.time);
                self.undecided.on_scan(socket.sock, scan, socket.time, role);
                false
            }
            None => false,
        }
    }

    /// Learns the role of a socket that a scan found before its close, which is held.
    pub(in crate::tracker) fn learn_role_of_closed(
        &mut self,
        netns: NetnsId,
        socket: &ScannedSocket,
    ) {
        let is_found = self.last_held(socket.sock).is_some_and(|last| {
            last.new == TcpState::Close
                && last.netns == netns
                && Endpoints::from(last).can_be(socket.into(), false)
        });
        if is_found {
            let role = self.role_of_scanned(netns, socket);
            self.undecided.learn_role(socket.sock, role);
        }
    }

    /// Decides the filters of sockets with held records, now that holders of listeners are known.
    pub(super) fn decide_held(&mut self) {
        for (sock, ..) in self.undecided.waiting_socks() {
            self.decide(sock, false);
        }
    }

    /// Decides sockets with held records that await no further scan, by their namespace and the time
    /// of their last transition.
    pub(in crate::tracker) fn settle_all(&mut self, is_over: impl Fn(NetnsId, Nanos) -> bool) {
        if self.undecided.waiting() == 0 {
            return;
        }
        for (sock, netns, seen) in self.undecided.waiting_socks() {
            if is_over(netns, seen) {
                self.settle(sock);
            }
        }
    }

    /// Ends an earlier connection of the socket, of which records may be held.
    fn settle_previous(&mut self, sock: SockId) {
        self.settle(sock);
        self.undecided.forget(sock);
        self.classify_previous(sock);
    }

    /// Whether a socket without held records, or with those of a connection that has these
    /// endpoints. If not, the kernel has reused the memory of the socket.
    pub(super) fn is_held_connection(
        &self,
        sock: SockId,
        netns: NetnsId,
        endpoints: Endpoints,
    ) -> bool {
        self.last_held(sock).is_none_or(|last| {
            let is_young_child = last.new == TcpState::SynRecv;
            last.new != TcpState::Close
                && last.netns == netns
                && Endpoints::from(last).can_be(endpoints, is_young_child)
        })
    }

    /// The last transition among the held records of a socket.
    fn last_held(&self, sock: SockId) -> Option<&Transition> {
        self.undecided.decision(sock).last_transition()
    }

    /// Whether the next scan may decide the role, or the filters: the first one of a namespace finds the
    /// listeners that are older than the trace, and with them the processes that serve connections.
    fn may_scan_decide(&self, outcome: Option<bool>, role: Role, netns: NetnsId) -> bool {
        role == Role::Unknown
            || outcome.is_none() && self.origin_of_adopted(netns) == Origin::Preexisting
    }

    /// Decides a socket with held records by what is known now, whatever its role.
    pub(super) fn settle(&mut self, sock: SockId) {
        self.decide(sock, true);
    }

    fn decide(&mut self, sock: SockId, is_final: bool) {
        let Some(last) = self.last_held(sock).cloned() else { return };
        let evidence = self.evidence(&last);
        let outcome = self.undecided.judge(&evidence.facts());
        let awaits_scan = !is_final && self.may_scan_decide(outcome, evidence.role, last.netns);
        match outcome {
            Some(true) if !awaits_scan => self.admit(sock, evidence.role),
            // No record follows a close.
            Some(false) if last.new == TcpState::Close => self.undecided.forget(sock),
            Some(false) => self.undecided.exclude(sock, last.netns, last.time),
            None if last.new == TcpState::Close && !awaits_scan => self.undecided.forget(sock),
            Some(true) | None => {}
        }
    }
}
