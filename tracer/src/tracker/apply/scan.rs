//! Applies scans of a namespace's sockets.
//!
//! Sockets are opened and closed while a scan runs. So the findings arrive after all records older
//! than the end of the scan, and a later record has precedence over a finding: a socket that was
//! closed after it was found is not adopted, and a socket with a record since the scan began is not
//! missing.

use std::collections::{BTreeMap, HashMap};

use synfin_common::{event::Flags, state::TcpState};

use crate::{
    tcp::role::Role,
    trace::{
        accept_queue::AcceptQueue,
        ids::NetnsId,
        scan::{ScanBegin, ScanEnd, ScannedSocket},
    },
    tracker::{
        EVIDENCE_LOST, Tracker,
        accept_fifo::AcceptFifo,
        connection::{Connection, Origin},
        gauges::ScanGauges,
        listeners::Listener,
        past_activity::PastActivity,
        row_key::RowKey,
        scan::{
            CONNECT_DELAY, Deferred, FoundTimeWait, MISSED_SCANS_LIMIT, SocketScan,
            is_same_connection, is_stored,
        },
        socket_key::SocketKey,
        time_wait_rows::{ByEndpoints, EndpointPairs},
    },
};

impl Tracker {
    pub(in crate::tracker) fn begin_scan(&mut self, begin: &ScanBegin) {
        self.scans = self.scans.wrapping_add(1);
        self.now = self.now.max(begin.time);
        self.namespaces.begin_scan(begin.netns, begin.time);
        self.rows.pin();
        if let Some(unfinished) = self.scan.take() {
            self.discard_findings(&unfinished);
        }
        self.scan = Some(Box::new(SocketScan {
            netns: begin.netns,
            started: begin.time,
            number: self.scans,
            losses: self.losses(),
            closed: HashMap::default(),
            found: ByEndpoints::default(),
            entered: ByEndpoints::default(),
            from_fin_wait2: ByEndpoints::default(),
            left: EndpointPairs::default(),
            rows: HashMap::default(),
            ended: HashMap::default(),
            ports: BTreeMap::default(),
            deferred: Deferred::default(),
            has_connections: false,
            incomplete: false,
        }));
    }

    /// Forgets what an incomplete scan found.
    fn discard_findings(&mut self, scan: &SocketScan) {
        let netns = scan.netns;
        for (_, connection) in self.connections.iter_mut().filter(|(_, it)| it.netns == netns) {
            connection.take_found();
        }
        for (&row, &segments) in &scan.ended {
            self.rows.get_mut(row).unsettled.entry(netns).or_default().ended += segments;
        }
    }

    pub(in crate::tracker) fn mark_scan_incomplete(&mut self) {
        if let Some(scan) = &mut self.scan {
            scan.incomplete = true;
        }
    }

    pub(in crate::tracker) fn apply_scanned_socket(&mut self, socket: &ScannedSocket) {
        match socket.state {
            TcpState::Listen => {
                self.with_scan(|tracker, scan| tracker.apply_scanned_listener(scan, socket));
            }
            TcpState::NewSynRecv => {
                self.with_scan(|tracker, scan| tracker.apply_scanned_half_open(scan, socket));
            }
            TcpState::Close | TcpState::TimeWait => {}
            _ => self.apply_scanned_connection(socket),
        }
    }

    /// Applies a finding that no record depends on: records note in `self.scan` what they change.
    pub(super) fn with_scan(&mut self, apply: impl FnOnce(&mut Self, &mut SocketScan)) {
        if let Some(mut scan) = self.scan.take() {
            apply(self, &mut scan);
            self.scan = Some(scan);
        }
    }

    fn apply_scanned_listener(&mut self, scan: &mut SocketScan, socket: &ScannedSocket) {
        let (netns, local) = (scan.netns, socket.local);
        self.learn_listener_port(socket.sock, netns, local);
        let known = self.listeners.get_mut(socket.sock);
        let mut new_drops = 0;
        let mut is_new = false;
        let defers_accept = socket.flags.contains(Flags::DEFER_ACCEPT);
        match known.filter(|known| (known.netns, known.local) == (netns, local)) {
            Some(listener) => {
                listener.missed_scans = 0;
                listener.last_seen = listener.last_seen.max(socket.time);
                listener.last_scan = scan.number;
                listener.defers_accept = defers_accept;
                listener.mptcp = socket.mptcp;
                // If it is later, the scan found the previous socket at the same address.
                if listener.listening_since <= socket.time {
                    new_drops = listener.drops_since(socket.drops);
                }
            }
            None if scan.was_closed_since(socket) => return,
            None => {
                let mut listener = Listener {
                    netns,
                    local,
                    mptcp: socket.mptcp,
                    owner: None,
                    holders: Vec::new(),
                    owners_checked_at: 0,
                    is_held: false,
                    cgroup: socket.cgroup,
                    listening_since: socket.time,
                    last_seen: socket.time,
                    last_scan: scan.number,
                    missed_scans: 0,
                    defers_accept,
                    // Drops from before the scan are not counted.
                    drops: socket.drops,
                    accept_fifo: AcceptFifo::default(),
                };
                let held = listener.held_socket(socket.sock);
                if let Some((holders, seen)) = self.socket_owners.of(held, 0) {
                    listener.set_holders(holders, seen);
                }
                self.listeners.insert(socket.sock, listener);
                is_new = true;
            }
        }
        self.listener_drops.add(netns, local.port(), new_drops);
        let AcceptQueue { depth, limit } = socket.accept_queue;
        let port = scan.ports.entry(local.port()).or_default();
        port.listens = true;
        port.accept_queue_full |= depth > limit;
        if self.admits_listener(socket.sock) {
            let id = self.rows.row(RowKey::of_port(netns, Role::Server, local.port()), true);
            let gauges = scan.rows.entry(id).or_default();
            gauges.listeners += 1;
            gauges.accept_queue += u64::from(depth);
            gauges.limit_queue(limit.into());
            let row = self.rows.get_mut(id);
            row.accept_peak = row.accept_peak.max(depth.into());
            row.counters.listener_drops += new_drops;
            if is_new {
                row.uptime.on_scan();
            }
            self.note_scanned_accept_queue(socket, id);
        }
    }

    fn apply_scanned_half_open(&mut self, scan: &mut SocketScan, socket: &ScannedSocket) {
        scan.ports.entry(socket.local.port()).or_default().half_open += 1;
        let key = RowKey::of_port(scan.netns, Role::Server, socket.local.port());
        if let Some(row) = self.rows.find(key)
            && self.admits_half_open(scan.netns, socket)
        {
            scan.rows.entry(row).or_default().half_open += 1;
        }
    }

    fn apply_scanned_connection(&mut self, socket: &ScannedSocket) {
        let Some(scan) = &mut self.scan else { return };
        scan.has_connections = true;
        let (netns, number) = (scan.netns, scan.number);
        let was_closed = scan.was_closed_since(socket);
        if !scan.deferred.is_over && self.awaits_evidence(netns, socket) {
            return self.defer(socket);
        }
        self.close_reused_by(netns, socket);
        if self.connections.get(socket.sock).is_none() {
            if was_closed {
                return self.learn_role_of_closed(netns, socket);
            }
            if !self.admits_scanned(netns, number, socket) {
                return;
            }
            // An earlier connection of the socket may have had held records.
            self.close_reused_by(netns, socket);
        }
        self.learn_age(netns, socket);
        match self.connections.get(socket.sock) {
            Some(_) => self.reconcile_scanned(socket),
            None => self.adopt_scanned(socket),
        }
    }

    /// Applies the finding at the end of the scan, when more is known.
    fn defer(&mut self, socket: &ScannedSocket) {
        if let Some(scan) = &mut self.scan {
            scan.deferred.sockets.push(socket.clone());
        }
    }

    /// Closes the connection whose socket has been reused by the one that the scan found.
    fn close_reused_by(&mut self, netns: NetnsId, socket: &ScannedSocket) {
        let known = self.connections.get(socket.sock);
        let is_reused = known.is_some_and(|connection| {
            connection.last_transition <= socket.time
                && !is_same_connection(connection, netns, socket)
        });
        if is_reused {
            self.close_reused(socket.sock, socket.time);
        }
    }

    /// Makes a tracked connection agree with the finding of a scan, unless a record has come since.
    fn reconcile_scanned(&mut self, socket: &ScannedSocket) {
        let (Some(scan), Some(connection)) = (&self.scan, self.connections.get_mut(socket.sock))
        else {
            return;
        };
        let netns = scan.netns;
        let had_record_since = connection.last_transition > socket.time;
        let is_same = is_same_connection(connection, netns, socket);
        if is_same {
            self.count_found(socket);
        } else if had_record_since && connection.netns == netns {
            connection.on_scan();
        }
        let connection = self.connections.get_mut(socket.sock);
        let Some(connection) = connection.filter(|_| is_same && !had_record_since) else {
            return;
        };
        connection.learn_endpoints(socket.into(), false);
        if let Some(by_connect) = socket.port_by_connect {
            connection.flags.set_is_bound(!by_connect);
        }
        if connection.state == socket.state {
            return;
        }
        if is_stored(connection, socket) {
            // The record of a transition was lost.
            self.records.gaps += 1;
            // It left the old state after it had entered that.
            let since = PastActivity::at_scan(socket).in_state_at(socket.state);
            connection.last_transition = connection.last_transition.max(since);
            connection.flags.set_state_since_is_lower_bound(true);
            let row = self.rows.get_mut(connection.row);
            connection.enter(socket.state, row, |_| EVIDENCE_LOST);
        } else {
            // The next scan shows whether a record was lost.
            self.namespaces.request_scan(netns, socket.time);
        }
    }

    /// Starts to track a connection whose first transition was not observed.
    fn adopt_scanned(&mut self, socket: &ScannedSocket) {
        let Some(scan) = &self.scan else { return };
        if scan.incomplete || socket.remote.port() == 0 {
            return;
        }
        let netns = scan.netns;
        let origin = self.origin_of_adopted(netns);
        if origin == Origin::AfterLoss {
            if self.connections.is_full() {
                // Adoption would evict an open connection, which the next scan would adopt again.
                return;
            }
            // The record of its first transition was lost.
            self.records.gaps += 1;
        }
        let role = self.role_of_scanned(netns, socket);
        let key = SocketKey { netns, sock: socket.sock, mptcp: socket.mptcp };
        let past = PastActivity::at_scan(socket);
        let mut connection = self.adopted(key, role, origin, socket.state, socket.into(), &past);
        connection.flags.set_is_bound(socket.port_by_connect == Some(false));
        connection.set_port_range(socket.port_range);
        connection.flags.set_is_subflow(socket.flags.contains(Flags::MPTCP));
        self.classify_previous(socket.sock);
        self.add(socket.sock, connection);
        self.count_found(socket);
    }

    pub(in crate::tracker) fn end_scan(&mut self, end: &ScanEnd) {
        let Some(scan) = &self.scan else { return };
        self.now = self.now.max(end.ended);
        let is_complete = end.error.is_none() && !scan.incomplete && end.netns == scan.netns;
        if is_complete {
            self.apply_deferred();
        }
        let Some(mut scan) = self.scan.take() else { return };
        self.rows.unpin();
        if !is_complete {
            self.namespaces.note_change(scan.netns, end.ended);
            return self.discard_findings(&scan);
        }
        let can_change_without_record = self.record_scan_gauges(&mut scan);
        let known_losses = self.namespaces.losses_at_scan(scan.netns).unwrap_or(0);
        // A missing socket may have been closed by a record that was lost since the last scan.
        let new_losses = self.losses().saturating_sub(known_losses);
        let missed_limit = if new_losses > 0 { 1 } else { MISSED_SCANS_LIMIT };
        let missed_a_listener =
            self.listeners.forget_absent(scan.netns, scan.number, scan.started, missed_limit);
        let missed_a_connection = self.forget_absent(&scan, new_losses);
        if let Some(traffic) = &mut self.traffic {
            traffic.retain(|sock| self.connections.get(sock).is_some());
        }
        self.undecided.forget_absent(scan.netns, scan.number, scan.started);
        self.time_waits.rows.forget_absent(scan.netns, scan.number);
        let known_counters = self.namespaces.end_scan(end, &scan);
        let counters = known_counters.zip(end.counters);
        if let Some((known, counters)) = &counters {
            self.record_kernel_counters(scan.netns, known, counters);
        }
        self.explain_drops(&scan, counters.is_some());
        // The next scan distinguishes sockets that are gone from those that this one skipped, and
        // shows changes without a record.
        if missed_a_listener
            || missed_a_connection
            || can_change_without_record
            || self.listener_drops.are_incomplete(scan.netns)
        {
            self.namespaces.request_scan(scan.netns, end.ended);
        }
    }

    /// Applies the findings whose role depends on a listener or on another subflow, now that the scan
    /// has found all of them.
    fn apply_deferred(&mut self) {
        let Some(scan) = &mut self.scan else { return };
        let Deferred { sockets, time_waits, .. } = std::mem::take(&mut scan.deferred);
        scan.deferred.is_over = true;
        let netns = scan.netns;
        let (known, unknown): (Vec<_>, Vec<_>) = sockets
            .into_iter()
            .partition(|socket| self.role_of_scanned(netns, socket) != Role::Unknown);
        for socket in known.iter().chain(&unknown) {
            self.apply_scanned_connection(socket);
        }
        self.settle_all(|of, _| of == netns);
        self.with_scan(|tracker, scan| {
            for time_wait in &time_waits {
                tracker.apply_found_time_wait(scan, time_wait);
            }
        });
    }

    /// Sets the gauges of rows. Returns whether any of them can change without a record.
    fn record_scan_gauges(&mut self, scan: &mut SocketScan) -> bool {
        let expired = self.expired().min(scan.started);
        let (_, rows) = self.rows.iter_with_labels();
        for (id, key, row) in rows {
            if key.netns == scan.netns || key.netns == 0 {
                let open = scan.rows.get(&id).map(|gauges| gauges.segments);
                let ended = scan.ended.get(&id).copied();
                row.settle_segments(
                    scan.netns,
                    open.unwrap_or_default(),
                    ended.unwrap_or_default(),
                );
                row.time_waits.clear(scan.netns);
                row.scanned.remove(&scan.netns);
            }
        }
        let mut rows = std::mem::take(&mut scan.rows);
        for FoundTimeWait { entry, is_counted } in scan.time_waits() {
            match entry.expiry {
                Some(expiry) => {
                    self.rows.get_mut(entry.row).time_waits.add(scan.netns, expired, expiry.get());
                }
                None => rows.entry(entry.row).or_default().fin_wait2_orphans += 1,
            }
            if !is_counted {
                self.time_waits.rows.enter(scan.netns, entry, scan.number);
            }
        }
        let can_change = rows.values().any(ScanGauges::can_change_without_record);
        for (row, gauges) in rows {
            let row = self.rows.get_mut(row);
            row.half_open_peak = row.half_open_peak.max(gauges.half_open);
            row.scanned.insert(scan.netns, gauges);
        }
        can_change
    }

    /// Closes the connections of sockets that are gone: [`MISSED_SCANS_LIMIT`] consecutive scans did not
    /// find them, or this one if records were lost. Returns whether this scan missed any.
    fn forget_absent(&mut self, scan: &SocketScan, new_losses: u64) -> bool {
        let mut gone = Vec::new();
        let mut missed = false;
        let of_netns = |(_, it): &(_, &mut Connection)| it.netns == scan.netns;
        for (sock, connection) in self.connections.iter_mut().filter(of_netns) {
            let is_missing = !connection.take_found() && connection.last_transition < scan.started;
            let may_be_connecting = connection.state == TcpState::SynSent
                && connection.last_transition.saturating_add(CONNECT_DELAY) > scan.started;
            missed |= is_missing;
            if is_missing && !may_be_connecting {
                if connection.flags.is_missed() || new_losses > 0 {
                    gone.push(sock);
                }
                connection.flags.set_is_missed(true);
            }
        }
        // The records of these closes are missing: gaps, unless they are counted as lost already.
        self.records.gaps += (gone.len() as u64).saturating_sub(new_losses);
        for sock in gone {
            self.close_missing(sock, scan.started);
        }
        missed
    }
}
