//! Applies transitions of sockets.

use std::net::SocketAddr;

use synfin_common::{event::Flags, state::TcpState};

use crate::{
    tcp::{
        handshake::{Handshake, Unmeasured},
        role::Role,
        state::is_pending,
        transition::TransitionKind,
    },
    trace::{
        event::Transition,
        ids::{ListenerId, NetnsId, SockId},
    },
    tracker::{
        EVIDENCE_LOST, Tracker,
        accept_fifo::AcceptFifo,
        connection::{Connection, Origin},
        connections::Slot,
        endpoints::Endpoints,
        gauges::smaller_limit,
        handshake,
        listeners::Listener,
        owners::Owner,
        past_activity::PastActivity,
        row_key::RowKey,
        served::Served,
        socket_key::SocketKey,
    },
};

impl Tracker {
    /// Applies a transition that the filters admit.
    pub(in crate::tracker) fn transition(&mut self, transition: &Transition) {
        match TransitionKind::of(transition.old, transition.new) {
            TransitionKind::Listen | TransitionKind::CloseListener => {
                self.changes.transition(transition, None, &self.names);
                self.apply_listener(transition);
            }
            TransitionKind::Open(role) => self.open_connection(transition, role),
            TransitionKind::Change => self.apply_transition(transition),
            TransitionKind::Close => self.close_connection(transition),
        }
    }

    /// Opens or closes a listener. The caller reports the change.
    pub(super) fn apply_listener(&mut self, transition: &Transition) {
        if TransitionKind::of(transition.old, transition.new) == TransitionKind::Listen {
            return self.listener_opened(transition);
        }
        self.listener_closed(transition);
        if let Some(scan) = &mut self.scan {
            scan.closed(transition);
        }
    }

    /// The row that counts a connection.
    pub(super) fn row_key(
        &mut self,
        netns: NetnsId,
        role: Role,
        Endpoints { local, remote }: Endpoints,
        owner: Option<&Owner>,
    ) -> RowKey {
        let key = RowKey::of_port(netns, role, role.service_port(local, remote));
        match role {
            Role::Server | Role::Unknown => key,
            Role::Client => RowKey {
                owner: owner.and_then(|owner| self.rows.label(&owner.label)),
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
            mptcp: None,
            owner: self.names.owner_by_opening(transition),
            holders: Vec::new(),
            owners_checked_at: 0,
            is_held: false,
            cgroup: transition.opening.as_ref().map_or(0, |opening| opening.cgroup),
            listening_since: transition.time,
            last_seen: transition.time,
            last_scan: 0,
            missed_scans: 0,
            defers_accept: transition.flags.contains(Flags::DEFER_ACCEPT),
            // The counter is not 0 if the socket has listened before.
            drops: transition.opening.as_ref().map_or(0, |opening| opening.drops),
            accept_fifo: AcceptFifo::default(),
        };
        self.listeners.insert(transition.sock, listener);
        // listen() without bind() chooses the port after this transition.
        if local.port() != 0 {
            self.add_listener_row(transition.sock);
        }
    }

    /// Makes the row of a listener that has begun to listen.
    fn add_listener_row(&mut self, sock: SockId) {
        let Some(listener) = self.listeners.get(sock) else { return };
        let (key, since) = (
            RowKey::of_port(listener.netns, Role::Server, listener.local.port()),
            listener.listening_since,
        );
        let row = self.rows.row(key, true);
        if self.admits_listener(sock) {
            self.rows.get_mut(row).uptime.on_listen(since);
        }
    }

    /// Learns the port of a listener that called listen() without bind().
    pub(super) fn learn_listener_port(&mut self, sock: SockId, netns: NetnsId, local: SocketAddr) {
        if self.listeners.learn_port(sock, netns, local) {
            self.add_listener_row(sock);
        }
    }

    /// The first connection of a listener shows its port. Where the kernel does not show the listener,
    /// it is the only one of unknown port, if nobody is known to listen on the connection's.
    fn learn_port_of_listener(&mut self, Served { netns, local: child, listener }: Served) {
        let only = || {
            let is_served = self.listeners.is_port_served(netns, child.port());
            (!is_served).then(|| self.listeners.only_portless(netns)).flatten()
        };
        if let Some(sock) = listener.map(ListenerId::get).or_else(only)
            && let Some(listener) = self.listeners.get(sock)
            && (listener.local.ip().is_unspecified() || listener.local.ip() == child.ip())
        {
            let local = SocketAddr::new(listener.local.ip(), child.port());
            self.learn_listener_port(sock, netns, local);
        }
    }

    /// Removes a listener. Its row keeps the owners.
    fn listener_closed(&mut self, transition: &Transition) {
        let is_admitted = self.admits_listener(transition.sock);
        let Some(mut listener) = self.listeners.remove(transition.sock) else {
            return;
        };
        let (netns, port) = (listener.netns, listener.local.port());
        let drops = transition.closing.map_or(0, |closing| listener.drops_since(closing.drops));
        self.listener_drops.add(netns, port, drops);
        let Some(row) = self.rows.find(RowKey::of_port(netns, Role::Server, port)) else {
            return;
        };
        let row = self.rows.get_mut(row);
        if is_admitted {
            row.counters.listener_drops += drops;
        }
        if !self.listeners.is_port_served(netns, port) {
            if is_admitted {
                row.uptime.on_close(transition.time);
            }
            row.set_owners(listener.labels());
        }
    }

    /// Starts to track a connection with its first transition.
    pub(super) fn open_connection(&mut self, transition: &Transition, role: Role) {
        self.close_reused(transition.sock, transition.time);
        let served = Served::of(transition, transition);
        let is_child = transition.old == TcpState::Listen;
        if is_child {
            self.learn_port_of_listener(served);
        }
        let opening = transition.opening.as_ref();
        let owner = match is_child {
            true => self.listeners.owner(served).cloned(),
            false => self.client_owner(transition),
        };
        let endpoints = Endpoints::from(transition);
        let (netns, time) = (transition.netns, transition.time);
        let key = match is_child {
            true => RowKey::of_port(netns, role, served.local.port()),
            false => self.row_key(netns, role, endpoints, owner.as_deref()),
        };
        let row = self.rows.row(key, is_child);
        let deferred_accept = transition.flags.contains(Flags::DEFER_ACCEPT)
            || is_child && self.listeners.defer_accept(served);
        let origin = match transition.is_restored() {
            true => Origin::Preexisting,
            false => Origin::Observed,
        };
        let mut connection =
            Connection::new(netns, role, origin, transition.old, endpoints, time, row);
        connection.owner = owner;
        connection.listener = served.listener;
        connection.listener_port = transition.listener_port().unwrap_or(0);
        connection.flags.set_defers_accept(deferred_accept);
        connection.flags.set_may_be_cookie(
            transition.flags.contains(Flags::COOKIES_SENT)
                || transition.flags.contains(Flags::REUSEPORT),
        );
        if !is_child {
            // Without IP_BIND_ADDRESS_NO_PORT, bind() takes a port before connect() would choose one.
            connection.flags.set_is_bound(transition.local.port() != 0);
            connection.set_port_range(opening.and_then(|opening| opening.port_range));
            connection.flags.set_is_subflow(transition.flags.contains(Flags::MPTCP));
            connection.replace_mptcp(transition.mptcp);
        }
        self.changes.transition(transition, Some(&connection), &self.names);
        connection.state = transition.new;
        if let (true, Some(opening)) = (is_child, opening) {
            let row = self.rows.get_mut(row);
            row.accept_peak = row.accept_peak.max(opening.accept_queue.depth.into());
            row.accept_limit = smaller_limit(row.accept_limit, opening.accept_queue.limit.into());
            row.counters.accept_depth.add(opening.accept_queue.depth.into());
        }
        if is_child {
            self.enter_accept_queue(transition, connection.row);
        }
        self.add(transition.sock, connection);
    }

    /// Starts to track a connection and counts it in its row.
    pub(super) fn add(&mut self, sock: SockId, connection: Connection) {
        if connection.origin == Origin::AfterLoss {
            self.miss_accept_queue_entry(&connection);
        }
        let row = self.rows.get_mut(connection.row);
        row.note_address(connection.local().ip());
        if connection.flags.is_established() {
            row.counters.adopted += 1;
            row.gauges.open += 1;
            row.gauges.preexisting += u64::from(connection.is_preexisting());
        } else {
            row.counters.attempts += 1;
            row.gauges.pending += 1;
        }
        row.gauges.enter(connection.state);
        if let Some(owner) = &connection.owner {
            row.add_owner(&owner.label);
            row.note_process(owner);
        }
        if let Some(evicted) = self.connections.insert(sock, connection) {
            let time = self.now;
            self.close_unobserved(&evicted, time);
        }
    }

    /// Starts to track a connection in the old state of its first record. Returns its slot.
    pub(super) fn adopt_from(
        &mut self,
        transition: &Transition,
        role: Role,
        origin: Origin,
    ) -> Option<Slot> {
        if origin == Origin::AfterLoss {
            self.records.gaps += 1;
        }
        let mut connection = self.adopted(
            SocketKey { netns: transition.netns, sock: transition.sock, mptcp: transition.mptcp },
            role,
            origin,
            transition.old,
            transition.into(),
            &PastActivity::at_transition(transition),
        );
        connection.time_wait_kind = self.time_waits.early.take(transition.sock, transition.time);
        self.add(transition.sock, connection);
        self.connections.slot(transition.sock)
    }

    /// The origin of a connection without an observed first transition. If its namespace was not
    /// scanned yet, the connection is older than the trace.
    pub(super) fn origin_of_adopted(&self, netns: NetnsId) -> Origin {
        match self.namespaces.losses_at_scan(netns) {
            Some(_) => Origin::AfterLoss,
            None => Origin::Preexisting,
        }
    }

    pub(super) fn adopted(
        &mut self,
        SocketKey { netns, sock, mptcp }: SocketKey,
        role: Role,
        origin: Origin,
        state: TcpState,
        endpoints: Endpoints,
        past: &PastActivity,
    ) -> Connection {
        let established = !is_pending(state);
        // The connection is older than the last scan of open files, unless that did not find it.
        let holder = match mptcp {
            Some(id) => self.mptcp_owner(id, sock),
            None => self.socket_owners.owner(sock, 0),
        };
        let owner_holds = holder.is_some();
        let owner = match role {
            Role::Server => {
                holder.or_else(|| self.listeners.owner(Served::at(netns, endpoints.local)).cloned())
            }
            Role::Client | Role::Unknown => holder,
        };
        let key = self.row_key(netns, role, endpoints, owner.as_deref());
        let row = self.rows.row(key, established);
        let since = past.existed_at(state);
        let mut connection = Connection::new(netns, role, origin, state, endpoints, since, row);
        connection.last_transition = past.in_state_at(state);
        connection.owner = owner;
        connection.replace_mptcp(mptcp);
        connection.flags.set_is_established(established);
        connection.flags.set_is_subflow(mptcp.is_some());
        connection.flags.set_owner_holds(owner_holds);
        connection.flags.set_is_newly_adopted(true);
        connection.flags.set_state_since_is_lower_bound(true);
        connection.flags.set_may_be_cookie(true);
        connection
    }

    fn apply_transition(&mut self, transition: &Transition) {
        let Some(slot) = self.reconcile_state(transition) else {
            return;
        };
        if transition.pid.is_some() {
            self.note_act(transition, slot);
        }
        if transition.new == TcpState::Established {
            self.learn_subflow(transition, slot);
        }
        let connection = self.connections.at(slot);
        connection.learn_owner(transition, &self.listeners, &self.socket_owners);
        self.changes.transition(transition, Some(connection), &self.names);
        connection.last_transition = transition.time;
        connection.flags.set_state_since_is_lower_bound(false);
        connection.flags.set_is_missed(false);
        connection.set_idle_ms(None);
        let completes_handshake =
            connection.enter(transition.new, self.rows.get_mut(connection.row), |connection| {
                let sent = (connection.origin == Origin::Observed).then_some(connection.first_seen);
                match transition.new {
                    // The kernel hands the child over before it takes the time
                    // (`net/ipv4/tcp_minisocks.c:tcp_check_req`).
                    TcpState::Established
                        if connection.flags.has_joined()
                            && connection.role == Role::Server
                            && transition.total_retransmits == 0 =>
                    {
                        Handshake::Unmeasured(Unmeasured::MpJoin)
                    }
                    TcpState::Established => handshake::measure(
                        connection.role,
                        transition,
                        sent,
                        connection.flags.defers_accept(),
                        connection.flags.may_be_cookie(),
                    ),
                    // A Fast Open child that closes before its handshake completes has no duration.
                    _ => EVIDENCE_LOST,
                }
            });
        if completes_handshake {
            self.changes.established(connection, &self.names);
            let (netns, role, port) =
                (connection.netns, connection.role, connection.service_port());
            let endpoints = connection.endpoints();
            // A connection with the same endpoints replaces a TIME_WAIT.
            self.leave_time_wait(netns, endpoints, transition.time, false);
            // The port gets a row of its own now, if the table has room.
            self.rows.row(RowKey::of_port(netns, role, port), true);
        }
    }

    /// Whether the connection of this transition, which is not its first, is tracked.
    pub(in crate::tracker) fn is_tracked(&self, transition: &Transition) -> bool {
        let (old, endpoints) = (transition.old, Endpoints::from(transition));
        self.connections.get(transition.sock).is_some_and(|connection| {
            let is_pending_again = connection.flags.is_established() && is_pending(old);
            let is_young = old == TcpState::SynRecv;
            !is_pending_again && connection.matches(transition.netns, endpoints, is_young)
        })
    }

    /// Makes the connection of a transition's socket agree with the old state and endpoints of the
    /// transition. Returns its slot.
    pub(super) fn reconcile_state(&mut self, transition: &Transition) -> Option<Slot> {
        let Some(slot) = self.connections.slot(transition.sock) else {
            let origin = self.origin_of_adopted(transition.netns);
            return self.adopt_from(transition, self.role_at(transition), origin);
        };
        if !self.is_tracked(transition) {
            self.close_reused(transition.sock, transition.time);
            let origin = self.origin_of_adopted(transition.netns);
            return self.adopt_from(transition, self.role_at(transition), origin);
        }
        let connection = self.connections.at(slot);
        let is_young = transition.old == TcpState::SynRecv;
        connection.learn_endpoints(transition.into(), is_young);
        if is_young {
            let address = connection.local().ip();
            self.rows.get_mut(connection.row).note_address(address);
        }
        if connection.state != transition.old {
            self.records.gaps += 1;
            connection.enter(transition.old, self.rows.get_mut(connection.row), |_| EVIDENCE_LOST);
        }
        Some(slot)
    }
}
