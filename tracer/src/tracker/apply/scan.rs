//! A scan over a namespace's sockets, applied to the books.
//!
//! A scan is not a moment: sockets come and go while it goes on. So its findings are given after
//! all records older than its end, and every finding yields to a later record: a socket that was
//! closed since it was met is not adopted, one that had a record since the scan began is not
//! missed.

use std::collections::HashMap;

use synfin_common::{event::Flags, state::TcpState};

use crate::{
    tcp::{role::Role, state},
    trace::{
        counters::KernelCounters,
        ids::NetnsId,
        scan::{ScanBegin, ScanEnd, ScannedSocket, ScannedTimeWait},
        time::Nanos,
    },
    tracker::{
        EVIDENCE_LOST, Tracker,
        connections::Origin,
        gauges::ScanGauges,
        listeners::Listener,
        row_key::{RowId, RowKey},
        scan::{CONNECT_DELAY, MISSED_SCANS_LIMIT, ScannedConnection, SocketScan},
        time_wait_rows::{ByEndpoints, EndpointPairKey, Entry, key},
    },
};

/// A socket's new state is stored a moment after the record of it was made, so that a scan may
/// still meet the old one. Only a difference that has lasted is a missed record.
const STORE_DELAY: Nanos = 10_000_000;

impl Tracker {
    pub(in crate::tracker) fn scan_begins(&mut self, begin: &ScanBegin) {
        self.scans = self.scans.wrapping_add(1);
        self.now = self.now.max(begin.time);
        self.namespaces.scan_begins(begin.netns, begin.time);
        self.is_scanning = true;
        self.scan = Some(Box::new(SocketScan {
            netns: begin.netns,
            begun: begin.time,
            number: self.scans,
            losses: self.losses(),
            closed: HashMap::default(),
            met: Vec::new(),
            entered: ByEndpoints::default(),
            turned: ByEndpoints::default(),
            left: ByEndpoints::default(),
            rows: HashMap::default(),
            has_connections: false,
            incomplete: false,
        }));
    }

    pub(in crate::tracker) fn scan_is_unreadable(&mut self) {
        if let Some(scan) = &mut self.scan {
            scan.incomplete = true;
        }
    }

    pub(in crate::tracker) fn scanned_socket(&mut self, socket: &ScannedSocket) {
        let Some(mut scan) = self.scan.take() else {
            return;
        };
        match socket.state {
            TcpState::Listen => self.scanned_listener(&mut scan, socket),
            TcpState::NewSynRecv => self.scanned_half_open(&mut scan, socket),
            TcpState::Close | TcpState::TimeWait => {}
            _ => self.scanned_connection(&mut scan, socket),
        }
        self.scan = Some(scan);
    }

    fn scanned_listener(&mut self, scan: &mut SocketScan, socket: &ScannedSocket) {
        let (netns, local) = (scan.netns, socket.local);
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
                // Else the scan met the one that was at the same address before.
                if listener.listening_since <= socket.time {
                    new_drops = listener.drops_since(socket.drops);
                }
            }
            None if scan.was_closed_since(socket) => return,
            None => {
                let mut listener = Listener {
                    netns,
                    local,
                    owner: None,
                    holders: Vec::new(),
                    owners_checked_at: 0,
                    cgroup: socket.cgroup,
                    listening_since: socket.time,
                    last_seen: socket.time,
                    last_scan: scan.number,
                    missed_scans: 0,
                    defers_accept,
                    // What it dropped before is not ours to count.
                    drops: socket.drops,
                };
                if let Some(holders) = self.socket_owners.of(socket.sock, 0) {
                    listener.is_held_by(holders);
                }
                self.listeners.insert(socket.sock, listener);
                is_new = true;
            }
        }
        if self.shows_listener(socket.sock) {
            let row = self.row(RowKey::of_port(netns, Role::Server, local.port()), true);
            let figures = scan.rows.entry(row).or_default();
            figures.listeners += 1;
            figures.accept_queue += u64::from(socket.accept_queue.0);
            figures.limit_queue(socket.accept_queue.1.into());
            let row = self.rows.get_mut(row);
            row.accept_peak = row.accept_peak.max(socket.accept_queue.0.into());
            row.interval.listener_drops += new_drops;
            if is_new {
                row.uptime.on_scan();
            }
        }
    }

    fn scanned_half_open(&mut self, scan: &mut SocketScan, socket: &ScannedSocket) {
        let key = RowKey::of_port(scan.netns, Role::Server, socket.local.port());
        if let Some(row) = self.rows.find(key)
            && self.shows_half_open(scan.netns, socket)
        {
            scan.rows.entry(row).or_default().half_open += 1;
        }
    }

    fn scanned_connection(&mut self, scan: &mut SocketScan, socket: &ScannedSocket) {
        scan.has_connections = true;
        if self.connections.get(socket.sock).is_none()
            && (scan.was_closed_since(socket)
                || !self.admits_scanned(scan.netns, scan.number, socket))
        {
            return;
        }
        if let Some(connection) = self.connections.get_mut(socket.sock) {
            let had_record_since = connection.last_transition > socket.time;
            let is_stored = connection.last_transition.saturating_add(STORE_DELAY) < socket.time;
            let goes_back = connection.established && state::is_pending(socket.state) && is_stored;
            // Up to Linux 6.14 a child's birth does not tell its own ends, so that they fit any.
            let is_client = socket.port_by_connect == Some(true);
            let turned_client = connection.role == Role::Server && is_client;
            let fits = connection.fits(scan.netns, (socket.local, socket.remote), false);
            let is_same = fits && !goes_back && !turned_client;
            if had_record_since || is_same {
                connection.last_scan = scan.number;
                connection.missed_scans = 0;
            }
            if is_same && is_stalled(socket) {
                scan.rows.entry(connection.row).or_default().stalled += 1;
            }
            if had_record_since {
                return;
            }
            if is_same {
                connection.learn_endpoints(socket.local, socket.remote);
                if connection.state != socket.state {
                    if is_stored {
                        // A record in the middle of the connection is missing.
                        self.gaps += 1;
                        connection.last_transition = socket.time;
                        connection.state_since_is_lower_bound = true;
                        let row = self.rows.get_mut(connection.row);
                        connection.enter(socket.state, row, |_| EVIDENCE_LOST);
                    } else {
                        // The next scan shows whether a record is missing.
                        self.namespaces.note_transition(scan.netns, socket.time);
                    }
                }
                return;
            }
            // Another connection has the socket's address: an end and a birth were lost.
            self.gaps += 1;
            self.lose_sight(socket.sock, socket.time);
        }
        if scan.was_closed_since(socket) || scan.incomplete || socket.remote.port() == 0 {
            return;
        }
        let origin = self.origin_of_adopted(scan.netns);
        if origin == Origin::AfterLoss {
            if self.connections.is_full() {
                // If it took the place of another that lives, scans would exchange them for ever.
                return;
            }
            // The record of its birth is missing.
            self.gaps += 1;
        }
        let role = match socket.state {
            TcpState::SynSent => (Role::Client, false),
            _ => self.role_of(scan.netns, (socket.local, socket.remote), socket.port_by_connect),
        };
        let ends = (socket.local, socket.remote);
        let socket_id = (scan.netns, socket.sock);
        let mut connection = self.adopted(socket_id, role, origin, socket.state, ends, socket.time);
        connection.last_scan = scan.number;
        self.classify_previous(socket.sock);
        if is_stalled(socket) {
            scan.rows.entry(connection.row).or_default().stalled += 1;
        }
        self.add(socket.sock, connection);
    }

    pub(in crate::tracker) fn scanned_time_wait(&mut self, time_wait: &ScannedTimeWait) {
        let Some(mut scan) = self.scan.take() else {
            return;
        };
        let key = key(scan.netns, (time_wait.local, time_wait.remote));
        // What was met may have ended since: then it says nothing of one at the same ends.
        if !scan.left.contains_key(&key)
            && let Some((row, is_guess)) = self.row_of_time_wait(&scan, key, time_wait)
        {
            let expiry = scan.expiry(time_wait);
            scan.entered.remove(&key);
            let entry = Entry { key, row, is_guess, expiry };
            let is_booked = self.time_wait_rows.meet(&entry, scan.number);
            scan.met.push(ScannedConnection { entry, is_booked });
        }
        self.scan = Some(scan);
    }

    /// The row of a TIME_WAIT that a scan met, and whether that is a guess; `None` if a filter
    /// excludes it.
    fn row_of_time_wait(
        &mut self,
        scan: &SocketScan,
        key: EndpointPairKey,
        time_wait: &ScannedTimeWait,
    ) -> Option<(RowId, bool)> {
        let ends = (time_wait.local, time_wait.remote);
        if let Some(entry) = scan.entered.get(&key) {
            return Some((entry.row, entry.is_guess));
        }
        let known = self.time_wait_rows.get(key).filter(|known| !known.is_guess);
        if let Some(known) = known.filter(|known| self.is_row_of(known.row, scan.netns, ends)) {
            return Some((known.row, false));
        }
        let (role, is_guess) = self.role_of(scan.netns, ends, time_wait.port_by_connect);
        if !self.shows_time_wait(scan.netns, role, is_guess, time_wait) {
            return None;
        }
        let row = self.row_key(scan.netns, role, ends, None);
        Some((self.row(row, true), is_guess))
    }

    pub(in crate::tracker) fn scan_ends(&mut self, end: &ScanEnd) {
        let Some(mut scan) = self.scan.take() else {
            return;
        };
        self.is_scanning = false;
        self.now = self.now.max(end.ended);
        if end.error.is_some() || scan.incomplete || end.netns != scan.netns {
            self.namespaces.note_transition(scan.netns, end.ended);
            return;
        }
        let will_pass = self.record_scan_gauges(&mut scan);
        let known_losses = self.namespaces.losses_at_scan(scan.netns).unwrap_or(0);
        // Records lost or missed since the last scan: a socket that is absent may be one of them.
        let new_losses = self.losses().saturating_sub(known_losses);
        let enough = if new_losses > 0 { 1 } else { MISSED_SCANS_LIMIT };
        let missed_a_listener =
            self.listeners.forget_absent(scan.netns, scan.number, scan.begun, enough);
        let missed_a_connection = self.forget_absent(&scan, enough, new_losses);
        self.undecided.forget_absent(scan.netns, scan.number, scan.begun);
        self.time_wait_rows.forget_absent(scan.netns, scan.number);
        let known_counters = self.namespaces.scanned(end, scan.losses, scan.has_connections);
        if let (Some(known), Some(counters)) = (known_counters, &end.counters) {
            self.record_kernel_counters(scan.netns, &known, counters);
        }
        // The next scan shows what is gone and what was passed over, and what has passed by itself.
        if missed_a_listener || missed_a_connection || will_pass {
            self.namespaces.note_transition(scan.netns, end.ended);
        }
    }

    /// What the kernel itself counted since the last scan.
    fn record_kernel_counters(
        &mut self,
        netns: NetnsId,
        known: &KernelCounters,
        counters: &KernelCounters,
    ) {
        let new = counters.since(known);
        for (sum, new) in self.kernel_counts.iter_mut().zip(new) {
            *sum = sum.saturating_add(new);
        }
        let overflows = new[KernelCounters::TIME_WAIT_OVERFLOW];
        let settled =
            self.unconfirmed_time_waits.settle(netns, (known.time, counters.time), overflows);
        for (key, overflowed) in settled {
            let row = self.row(key, true);
            let counters = &mut self.rows.get_mut(row).interval;
            if overflowed {
                counters.time_wait_overflowed += 1;
            } else {
                counters.time_wait_entered += 1;
            }
        }
    }

    /// Says whether some of them will pass without a record.
    fn record_scan_gauges(&mut self, scan: &mut SocketScan) -> bool {
        let expired = self.expired().min(scan.begun);
        for (key, row) in self.rows.iter_mut() {
            if key.netns == scan.netns || key.netns == 0 {
                row.time_waits.clear(scan.netns);
                row.scanned.remove(&scan.netns);
            }
        }
        let mut rows = std::mem::take(&mut scan.rows);
        for ScannedConnection { entry, is_booked } in scan.time_waits() {
            match entry.expiry {
                Some(expiry) => {
                    self.rows.get_mut(entry.row).time_waits.add(scan.netns, expired, expiry.get());
                }
                None => rows.entry(entry.row).or_default().fin_wait2_orphans += 1,
            }
            if !is_booked {
                self.time_wait_rows.enter(scan.netns, entry, scan.number);
            }
        }
        for (&row, &figures) in &rows {
            self.rows.get_mut(row).scanned.insert(scan.netns, figures);
        }
        rows.values().any(ScanGauges::will_pass)
    }

    /// Ends the lives of sockets that `enough` scans in a row should have met and did not. Says
    /// whether this one missed any.
    fn forget_absent(&mut self, scan: &SocketScan, enough: u8, new_losses: u64) -> bool {
        let mut gone = Vec::new();
        let mut missed = false;
        for (sock, connection) in self.connections.iter_mut() {
            let quiet = connection.netns == scan.netns
                && connection.last_scan != scan.number
                && connection.last_transition < scan.begun;
            let just_connecting = connection.state == TcpState::SynSent
                && connection.last_transition.saturating_add(CONNECT_DELAY) > scan.begun;
            missed |= quiet;
            if quiet && !just_connecting {
                connection.missed_scans += 1;
                if connection.missed_scans >= enough {
                    gone.push(sock);
                }
            }
        }
        // Each of their ends is missing. As many as were counted as lost or missed since the last
        // scan are accounted for; the rest were not.
        self.gaps += (gone.len() as u64).saturating_sub(new_losses);
        for sock in gone {
            self.lose_sight(sock, scan.begun);
        }
        missed
    }
}

/// Past its handshake, and its retransmissions are not answered.
fn is_stalled(socket: &ScannedSocket) -> bool {
    socket.retransmits > 0 && !state::is_pending(socket.state)
}
