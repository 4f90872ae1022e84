//! Decides by the known facts about a socket whether the filters admit it.

use std::net::SocketAddr;

use crate::{
    tcp::role::Role,
    trace::{
        event::Transition,
        ids::{NetnsId, SockId},
        scan::{ScannedSocket, ScannedTimeWait},
    },
    tracker::{
        Tracker,
        filter_evidence::{Cgroup, FilterEvidence},
        listeners::Listener,
        served::Served,
    },
};

impl Tracker {
    /// The evidence of a transition and of the held records before it.
    pub(super) fn evidence(&self, transition: &Transition) -> FilterEvidence {
        let held = self.undecided.decision(transition.sock);
        let first = held.first_transition().unwrap_or(transition);
        let role = match self.role_at(first) {
            Role::Unknown => self.undecided.role(first.sock),
            role => role,
        };
        let (pids, all_pids) = match role {
            Role::Client => {
                let pids = match first.mptcp {
                    Some(id) => self.mptcp_pids(id, first.sock),
                    None => Vec::from_iter(first.pid),
                };
                let all_pids = !pids.is_empty();
                (pids, all_pids)
            }
            Role::Server => {
                // A process forked after the last check may serve the connection.
                let served = Served::of(transition, first);
                let checked_at = self.listeners.owners_checked(served);
                let pids = self.listeners.pids(served);
                (pids, checked_at > first.time)
            }
            Role::Unknown => (Vec::new(), false),
        };
        let mut local = transition.local;
        if transition.has_listeners_port() {
            local.set_port(0);
        }
        FilterEvidence {
            netns: transition.netns,
            role,
            local,
            remote: transition.remote,
            listener_port: first.listener_port(),
            pids,
            all_pids,
            cgroup: self.cgroup_of_opening(first),
        }
    }

    pub(super) fn cgroup_of_opening(&self, first: &Transition) -> Cgroup {
        self.cgroup_of_record(first.opening.as_ref().map(|opening| opening.cgroup))
    }

    pub(super) fn cgroup_of_record(&self, id: Option<u64>) -> Cgroup {
        let path = id.and_then(|id| self.names.cgroup_path(id));
        path.map_or(Cgroup::CheckedByKernel, |path| Cgroup::Path(path.clone()))
    }

    fn cgroup(&self, id: u64) -> Cgroup {
        let path = self.names.cgroup_path(id);
        path.map_or(Cgroup::Unknown, |path| Cgroup::Path(path.clone()))
    }

    /// The evidence of a scan for a socket without held records.
    pub(super) fn scanned_evidence(
        &self,
        netns: NetnsId,
        socket: &ScannedSocket,
    ) -> FilterEvidence {
        let (local, remote) = (socket.local, socket.remote);
        let role = self.role_of_scanned(netns, socket);
        let mut pids = match socket.mptcp {
            Some(id) => self.mptcp_pids(id, socket.sock),
            None => self.socket_owners.pids(socket.sock),
        };
        let mut all_pids = !pids.is_empty();
        if role == Role::Server {
            let served = Served::at(netns, local);
            pids.extend(self.listeners.pids(served));
            all_pids |= self.listeners.owners_checked(served) > 0;
        }
        let cgroup = self.cgroup(socket.cgroup);
        FilterEvidence { netns, role, local, remote, listener_port: None, pids, all_pids, cgroup }
    }

    /// Whether the filters admit a listener.
    pub(in crate::tracker) fn admits_listener(&self, sock: SockId) -> bool {
        self.undecided.admits_everything()
            || self.listeners.get(sock).is_some_and(|listener| {
                self.admits(&FilterEvidence {
                    netns: listener.netns,
                    role: Role::Server,
                    local: listener.local,
                    remote: (listener.local.ip(), 0).into(),
                    listener_port: None,
                    pids: listener.pids(),
                    all_pids: listener.owners_checked_at > 0,
                    cgroup: self.cgroup(listener.cgroup),
                })
            })
    }

    /// Whether the filters admit counts of a local port, without a known peer.
    pub(in crate::tracker) fn admits_port(&self, netns: NetnsId, port: u16) -> bool {
        let unspecified = |port| SocketAddr::from(([0, 0, 0, 0], port));
        self.undecided.admits_everything()
            || self.admits(&FilterEvidence {
                netns,
                role: Role::Server,
                local: unspecified(port),
                remote: unspecified(0),
                listener_port: None,
                pids: self.listeners.on(netns, port).flat_map(Listener::pids).collect(),
                all_pids: false,
                cgroup: Cgroup::Unknown,
            })
    }

    /// Whether the filters admit a handshake in a SYN queue.
    pub(in crate::tracker) fn admits_half_open(
        &self,
        netns: NetnsId,
        socket: &ScannedSocket,
    ) -> bool {
        let served = Served::at(netns, socket.local);
        self.undecided.admits_everything()
            || self.admits(&FilterEvidence {
                netns,
                role: Role::Server,
                local: socket.local,
                remote: socket.remote,
                listener_port: None,
                pids: self.listeners.pids(served),
                all_pids: self.listeners.owners_checked(served) > 0,
                cgroup: Cgroup::Unknown,
            })
    }

    /// Whether the filters admit a TIME_WAIT whose entry was not observed. Its owner is unknown.
    pub(in crate::tracker) fn admits_time_wait(
        &self,
        netns: NetnsId,
        role: Role,
        socket: &ScannedTimeWait,
    ) -> bool {
        self.undecided.admits_everything()
            || self.admits(&FilterEvidence {
                netns,
                role,
                local: socket.local,
                remote: socket.remote,
                listener_port: None,
                pids: Vec::new(),
                all_pids: false,
                cgroup: Cgroup::Unknown,
            })
    }

    fn admits(&self, evidence: &FilterEvidence) -> bool {
        self.undecided.judge(&evidence.facts()) == Some(true)
    }
}
