//! Counts sockets in TIME_WAIT, and orphans in FIN_WAIT2 that will become TIME_WAITs.

use crate::{
    tcp::{coverage::OptionalHook, role::Role},
    trace::{
        event::{Input, TimeWaitChange, TimeWaitEntry, Transition},
        ids::NetnsId,
        time::Nanos,
    },
    tracker::{
        Connection, Tracker,
        classify::TimeWait,
        endpoints::Endpoints,
        time_wait::{LATENESS, LENGTH, expiry},
        time_wait_rows::{Entry, key},
    },
};

impl Tracker {
    /// Applies an entry into TIME_WAIT, which precedes the transition to CLOSE (`tcp_time_wait`).
    pub(in crate::tracker) fn apply_time_wait_entry(&mut self, entry: &TimeWaitEntry) {
        if !self.coverage.has(OptionalHook::TimeWait) {
            return;
        }
        match self.connections.get_mut(entry.sock) {
            Some(connection) => connection.time_wait_kind = Some(entry.kind),
            None => {
                self.time_waits.early.add(*entry);
                self.filter_event(entry.sock, entry.time, Input::TimeWaitEntry(*entry));
            }
        }
    }

    /// The time by which ended TIME_WAITs are removed. Where a hook reports exits, it is later, so
    /// that records come first.
    pub(in crate::tracker) fn expired(&self) -> Nanos {
        let is_reported = self.coverage.has(OptionalHook::TimeWait);
        if is_reported { self.now.saturating_sub(LATENESS) } else { self.now }
    }

    /// Adds the TIME_WAIT of a close to the gauges.
    pub(super) fn enter_time_wait(
        &mut self,
        end: &Transition,
        connection: &Connection,
        time_wait: TimeWait,
        is_provisional: bool,
    ) {
        let is_orphan = time_wait == TimeWait::InFinWait2;
        let (expired, time) = (self.expired(), end.time);
        let endpoints = Endpoints::from(end);
        let entry = Entry {
            key: key(connection.netns, endpoints),
            row: connection.row,
            is_guess: connection.role == Role::Unknown,
            expiry: (!is_orphan).then(|| expiry(time, LENGTH)),
            local: self.rows.local_port(
                connection.row,
                endpoints.local,
                connection.flags.is_bound(),
            ),
        };
        // A scan may have found it before this record, or the record of an earlier exit was lost.
        // The running scan finds what is left of an earlier entry, whose record was held.
        let is_before_scan = self.scan.as_ref().is_some_and(|scan| time < scan.started);
        let last_scan = if is_before_scan { self.scans.wrapping_sub(1) } else { self.scans };
        let before = self.time_waits.rows.enter(connection.netns, entry, last_scan);
        if let Some(before) = before {
            self.remove_from_gauges(connection.netns, endpoints, &before);
            if let Some(scan) = self.scan.as_mut().filter(|_| !is_before_scan) {
                scan.left_time_wait(connection.netns, entry.key, true);
            }
        }
        let row = self.rows.get_mut(connection.row);
        if is_orphan {
            row.scanned.entry(connection.netns).or_default().fin_wait2_orphans += 1;
        } else if is_provisional {
            row.time_waits.enter_provisionally(connection.netns, time, expired);
        } else {
            row.time_waits.enter(connection.netns, time, expired);
        }
        if let Some(scan) = self.scan.as_mut().filter(|_| !is_before_scan) {
            scan.entered_time_wait(connection.netns, entry);
        }
    }

    /// Applies a change: an orphan in FIN_WAIT2 became a TIME_WAIT, or one of both is gone.
    pub(in crate::tracker) fn apply_time_wait_change(&mut self, change: &TimeWaitChange) {
        let &TimeWaitChange { time, netns, is_gone, .. } = change;
        let endpoints = Endpoints::from(change);
        if !self.coverage.has(OptionalHook::TimeWait) {
            return;
        }
        if let Some(sock) = self.undecided.closed(key(netns, endpoints)) {
            if self.undecided.has_room(sock) {
                let origin = self.origin_of_adopted(netns);
                let record = Input::TimeWaitChange(*change);
                return self.undecided.hold(sock, (netns, origin), time, record);
            }
            self.settle(sock);
        }
        if is_gone {
            return self.leave_time_wait(netns, endpoints, time, true);
        }
        let (key, expired) = (key(netns, endpoints), self.expired());
        if let Some(entry) = self.time_waits.rows.become_time_wait(key, time)
            && self.is_row_of(&entry, netns, endpoints)
        {
            // If the record of the entry was lost, the orphan was already counted as a TIME_WAIT.
            self.remove_from_gauges(netns, endpoints, &entry);
            self.rows.get_mut(entry.row).time_waits.enter(netns, time, expired);
        }
        if let Some(scan) = &mut self.scan {
            scan.fin_wait2_to_time_wait(netns, key, time);
        }
    }

    /// Removes the TIME_WAIT with these endpoints from the gauges, if there is one: it ended by this
    /// time. `is_observed`: a record reports its exit; otherwise the exit is inferred.
    pub(in crate::tracker) fn leave_time_wait(
        &mut self,
        netns: NetnsId,
        endpoints: Endpoints,
        time: Nanos,
        is_observed: bool,
    ) {
        let key = key(netns, endpoints);
        if let Some(sock) = self.undecided.closed(key) {
            self.settle(sock);
        }
        let removed = self.time_waits.rows.take(key);
        if let Some(entry) = &removed {
            self.remove_from_gauges(netns, endpoints, entry);
        }
        // What the running scan finds of an earlier end is a later TIME_WAIT.
        if let Some(scan) = self.scan.as_mut().filter(|scan| time >= scan.started) {
            scan.left_time_wait(netns, key, is_observed || removed.is_some());
        }
    }

    /// Removes an entry from the gauges of its row.
    fn remove_from_gauges(&mut self, netns: NetnsId, endpoints: Endpoints, entry: &Entry) {
        if !self.is_row_of(entry, netns, endpoints) {
            return;
        }
        let expired = self.expired();
        let row = self.rows.get_mut(entry.row);
        match entry.expiry {
            Some(expiry) => row.time_waits.leave(netns, expired, expiry.get()),
            None => row.remove_orphan(netns),
        }
    }

    /// Whether the row of an entry is still a row for these endpoints. An idle row may have been
    /// removed and its id reused, and a row may be coarser than its key if the table was full.
    pub(in crate::tracker) fn is_row_of(
        &self,
        entry: &Entry,
        netns: NetnsId,
        endpoints: Endpoints,
    ) -> bool {
        self.rows.key(entry.row).is_some_and(|key| {
            let port = key.role.service_port(endpoints.local, endpoints.remote);
            let is_same_port = match entry.local.has_other_service() {
                true => key.role == Role::Server,
                false => key.port.is_none_or(|of_row| of_row == port),
            };
            [0, netns].contains(&key.netns) && is_same_port
        })
    }
}
