//! What the gate asks of the tracker: whose socket a record is about, as far as that is known.

use std::{net::SocketAddr, sync::Arc};

use synfin_common::state::TcpState;

use crate::{
    tcp::{role::Role, transition::Step},
    trace::{
        event::{Input, Transition},
        filter::{Facts, KnownCgroup},
        ids::{NetnsId, SockId},
        scan::{Holder, WalkedSocket, WalkedTimeWait},
        time::Nanos,
    },
    tracker::{Observer, Tracker, listeners::Listener, owners::Held, undecided::Known},
};

/// [`Facts`] of a socket that is not in the books.
struct Evidence {
    netns: NetnsId,
    role: Role,
    local: SocketAddr,
    remote: SocketAddr,
    pids: Vec<u32>,
    all_pids: bool,
    cgroup: Cgroup,
}

enum Cgroup {
    Unknown,
    Path(Arc<str>),
    OfRecord,
}

impl Evidence {
    fn facts(&self) -> Facts<'_> {
        Facts {
            netns: self.netns,
            role: self.role,
            local: self.local,
            remote: self.remote,
            pids: &self.pids,
            all_pids: self.all_pids,
            cgroup: match &self.cgroup {
                Cgroup::Unknown => KnownCgroup::Unknown,
                Cgroup::Path(path) => KnownCgroup::Path(path),
                Cgroup::OfRecord => KnownCgroup::OfRecord,
            },
        }
    }
}

impl Tracker {
    /// Lets a transition in, leaves it out, or keeps it back.
    pub(in crate::tracker) fn at_gate(
        &mut self,
        transition: &Transition,
        observer: &mut impl Observer,
    ) {
        let sock = transition.sock;
        let step = Step::of(transition.old, transition.new);
        match step {
            Step::Listens | Step::StopsListening => {
                return self.listener_at_gate(transition, observer);
            }
            Step::Birth(_) => {
                self.gate.forget(sock);
                if self.connections.get(sock).is_some() {
                    // The socket's address is used anew, so we missed how its last life ended.
                    self.gaps += 1;
                    self.lose(sock, transition.time, observer);
                }
            }
            Step::Onward | Step::End if self.connections.get(sock).is_some() => {
                return self.transition(transition, observer);
            }
            Step::Onward | Step::End => {}
        }
        let verdict = match self.gate.known(sock) {
            Known::Excluded => Some(false),
            _ => self.gate.judge(&self.evidence(transition).facts()),
        };
        match verdict {
            Some(true) => {
                self.let_in(sock, observer);
                self.transition(transition, observer);
            }
            // The last record has not decided, so nothing will.
            None | Some(false) if step == Step::End => {
                if let Some(walk) = &mut self.walk {
                    walk.closed(transition);
                }
                self.gate.forget(sock);
                self.gate.leave_out();
            }
            Some(false) => {
                self.gate.exclude(sock, transition.netns, transition.time);
                self.gate.leave_out();
            }
            None => {
                let record = Input::Transition(transition.clone());
                self.gate.keep_back(sock, transition.netns, transition.time, record);
            }
        }
    }

    /// A listener tells who serves a port, whether it is shown itself or not.
    fn listener_at_gate(&mut self, transition: &Transition, observer: &mut impl Observer) {
        let known = self.listeners.get(transition.sock);
        let pids = match known {
            Some(listener) => listener.pids(),
            None => transition.pid.into_iter().collect(),
        };
        let evidence = Evidence {
            netns: transition.netns,
            role: Role::Server,
            local: transition.local,
            remote: transition.remote,
            all_pids: !pids.is_empty(),
            pids,
            cgroup: known.map_or_else(
                || self.cgroup_of_birth(transition),
                |listener| self.cgroup_of_record(Some(listener.cgroup)),
            ),
        };
        match self.gate.judge(&evidence.facts()) {
            Some(true) => self.transition(transition, observer),
            Some(false) | None => {
                self.gate.leave_out();
                self.transition(transition, &mut ());
            }
        }
    }

    /// Lets in what was kept back.
    fn let_in(&mut self, sock: SockId, observer: &mut impl Observer) {
        for record in self.gate.let_in(sock) {
            match record {
                Input::Transition(transition) => self.transition(&transition, observer),
                Input::Reset(reset) => self.reset(&reset, observer),
                Input::TimeWaitEntry(entry) => self.remains(&entry),
                Input::Accepted(accepted) => self.accepted(&accepted),
                _ => unreachable!("only records of hooks are kept back"),
            }
        }
    }

    /// A record of a socket that is not in the books, and no transition.
    pub(super) fn aside_at_gate(&mut self, sock: SockId, time: Nanos, record: Input) {
        if self.gate.is_open() {
            return;
        }
        match self.gate.known(sock) {
            Known::Waiting(_, netns) => self.gate.keep_back(sock, netns, time, record),
            Known::Excluded | Known::Nothing => self.gate.leave_out(),
        }
    }

    /// What is known of a socket by a record, and by those before it.
    fn evidence(&self, transition: &Transition) -> Evidence {
        let kept = match self.gate.known(transition.sock) {
            Known::Waiting(records, _) => records,
            Known::Excluded | Known::Nothing => &[],
        };
        let birth = transitions(kept).next().unwrap_or(transition);
        let ends = (transition.local, transition.remote);
        let role = match Step::of(birth.old, birth.new) {
            Step::Birth(role) => role,
            _ if birth.old == TcpState::SynSent => Role::Client,
            _ => self.role_of(transition.netns, ends, None).0,
        };
        let (pids, all_pids) = match role {
            Role::Client => (Vec::from_iter(birth.pid), birth.pid.is_some()),
            Role::Server => {
                // One that was forked since may serve it.
                let looked_at = self.listeners.looked_at(transition.netns, transition.local);
                let pids = self.listeners.pids(transition.netns, transition.local);
                (pids, looked_at > birth.time)
            }
        };
        Evidence {
            netns: transition.netns,
            role,
            local: ends.0,
            remote: ends.1,
            pids,
            all_pids,
            cgroup: self.cgroup_of_birth(birth),
        }
    }

    fn cgroup_of_birth(&self, birth: &Transition) -> Cgroup {
        self.cgroup_of_record(birth.opening.as_ref().map(|opening| opening.cgroup))
    }

    fn cgroup_of_record(&self, id: Option<u64>) -> Cgroup {
        let path = id.and_then(|id| self.names.cgroup_path(id));
        path.map_or(Cgroup::OfRecord, |path| Cgroup::Path(path.clone()))
    }

    fn cgroup(&self, id: u64) -> Cgroup {
        let path = self.names.cgroup_path(id);
        path.map_or(Cgroup::Unknown, |path| Cgroup::Path(path.clone()))
    }

    /// Whether a connection that a walk met, and that is not in the books, is to be adopted. What
    /// was kept back of it is let in first.
    pub(in crate::tracker) fn admits_walked(
        &mut self,
        netns: NetnsId,
        walk: u32,
        socket: &WalkedSocket,
        observer: &mut impl Observer,
    ) -> bool {
        if self.gate.is_open() {
            return true;
        }
        if !self.gate.meet(socket.sock, walk, socket.time) {
            return false;
        }
        let evidence = match self.gate.known(socket.sock) {
            Known::Excluded => return false,
            Known::Waiting([Input::Transition(first), ..], _) => {
                let (local, remote) = (socket.local, socket.remote);
                Evidence { local, remote, ..self.evidence(first) }
            }
            _ => self.walked_evidence(netns, socket),
        };
        match self.gate.judge(&evidence.facts()) {
            Some(true) => {
                self.let_in(socket.sock, observer);
                true
            }
            Some(false) => {
                self.gate.exclude(socket.sock, netns, socket.time);
                self.gate.meet(socket.sock, walk, socket.time);
                false
            }
            None => false,
        }
    }

    /// What a walk shows of a socket of which no record was kept.
    fn walked_evidence(&self, netns: NetnsId, socket: &WalkedSocket) -> Evidence {
        let (local, remote) = (socket.local, socket.remote);
        let (role, _) = self.role_of(netns, (local, remote), socket.port_by_connect);
        let mut pids = self.held.pids(socket.sock);
        let mut all_pids = !pids.is_empty();
        if role == Role::Server {
            pids.extend(self.listeners.pids(netns, local));
            all_pids |= self.listeners.looked_at(netns, local) > 0;
        }
        let cgroup = self.cgroup(socket.cgroup);
        Evidence { netns, role, local, remote, pids, all_pids, cgroup }
    }

    /// Whether figures of a listener that a walk met are to be shown.
    pub(in crate::tracker) fn shows_listener(&self, sock: SockId) -> bool {
        self.gate.is_open()
            || self.listeners.get(sock).is_some_and(|listener| {
                self.shows(&Evidence {
                    netns: listener.netns,
                    role: Role::Server,
                    local: listener.local,
                    remote: (listener.local.ip(), 0).into(),
                    pids: listener.pids(),
                    all_pids: listener.looked_at > 0,
                    cgroup: self.cgroup(listener.cgroup),
                })
            })
    }

    /// Whether what is counted at a port of ours, with nobody known at the other end, is to be
    /// shown.
    pub(in crate::tracker) fn shows_port(&self, netns: NetnsId, port: u16) -> bool {
        let unspecified = |port| SocketAddr::from(([0, 0, 0, 0], port));
        self.gate.is_open()
            || self.shows(&Evidence {
                netns,
                role: Role::Server,
                local: unspecified(port),
                remote: unspecified(0),
                pids: self.listeners.on(netns, port).flat_map(Listener::pids).collect(),
                all_pids: false,
                cgroup: Cgroup::Unknown,
            })
    }

    /// Whether a half-open handshake is to be counted.
    pub(in crate::tracker) fn shows_half_open(
        &self,
        netns: NetnsId,
        socket: &WalkedSocket,
    ) -> bool {
        self.gate.is_open()
            || self.shows(&Evidence {
                netns,
                role: Role::Server,
                local: socket.local,
                remote: socket.remote,
                pids: self.listeners.pids(netns, socket.local),
                all_pids: self.listeners.looked_at(netns, socket.local) > 0,
                cgroup: Cgroup::Unknown,
            })
    }

    /// Whether a TIME_WAIT whose entry was not seen is to be counted: nothing tells whose it was,
    /// and a role that is a guess may be that of one whose entry was left out.
    pub(in crate::tracker) fn shows_time_wait(
        &self,
        netns: NetnsId,
        role: Role,
        role_assumed: bool,
        socket: &WalkedTimeWait,
    ) -> bool {
        self.gate.is_open()
            || !role_assumed
                && self.shows(&Evidence {
                    netns,
                    role,
                    local: socket.local,
                    remote: socket.remote,
                    pids: Vec::new(),
                    all_pids: false,
                    cgroup: Cgroup::Unknown,
                })
    }

    fn shows(&self, evidence: &Evidence) -> bool {
        self.gate.judge(&evidence.facts()) == Some(true)
    }

    /// Learns who holds which sockets.
    pub(in crate::tracker) fn look_at_holders(
        &mut self,
        holders: &[Holder],
        observer: &mut impl Observer,
    ) {
        self.held = Held::new(holders, &self.names);
        for sock in self.held.socks() {
            if let Some(listener) = self.listeners.get_mut(sock) {
                if let Some(holders) = self.held.of(sock, listener.since) {
                    listener.is_held_by(holders);
                }
            } else if let Some(life) = self.connections.get_mut(sock)
                && life.owner.is_none()
                && let Some(owner) = self.held.owner(sock, life.since)
            {
                self.ports.get_mut(life.row).own(&owner.label);
                life.owner = Some(owner);
            }
        }
        self.judge_waiting(observer);
    }

    /// A server's listener may now be known to belong to a process that was asked for.
    fn judge_waiting(&mut self, observer: &mut impl Observer) {
        for sock in self.gate.waiting_socks() {
            let last = match self.gate.known(sock) {
                Known::Waiting(records, _) => transitions(records).next_back().cloned(),
                _ => None,
            };
            let Some(last) = last else { continue };
            match self.gate.judge(&self.evidence(&last).facts()) {
                Some(true) => self.let_in(sock, observer),
                Some(false) => self.gate.exclude(sock, last.netns, last.time),
                None => {}
            }
        }
    }
}

/// The transitions among records that were kept back.
fn transitions(records: &[Input]) -> impl DoubleEndedIterator<Item = &Transition> {
    records.iter().filter_map(|record| match record {
        Input::Transition(transition) => Some(transition),
        _ => None,
    })
}
