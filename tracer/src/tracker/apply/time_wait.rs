//! Counts sockets in TIME_WAIT, and orphans in FIN_WAIT2 that will become TIME_WAITs.

use crate::{
    tcp::coverage::OptionalHook,
    trace::{
        event::{Input, TimeWaitChange, TimeWaitEntry, Transition},
        ids::NetnsId,
        time::Nanos,
    },
    tracker::{
        Connection, Tracker,
        classify::TimeWait,
        endpoints::Endpoints,
        row_key::RowId,
        time_wait::{LATENESS, LENGTH, expiry},
        time_wait_rows::{EndpointPairKey, Entry, key},
    },
};

impl Tracker {
    /// A socket is about to close and leaves this behind (`tcp_time_wait`).
    pub(in crate::tracker) fn time_wait_entered(&mut self, entry: &TimeWaitEntry) {
        if !self.coverage.has(OptionalHook::TimeWait) {
            return;
        }
        match self.connections.get_mut(entry.sock) {
            Some(connection) => connection.evidence.time_wait_kind = Some(entry.kind),
            None => {
                self.time_waits.early.add(*entry);
                self.filter_event(entry.sock, entry.time, Input::TimeWaitEntry(*entry));
            }
        }
    }

    /// TIME_WAITs that end by this time are gone, unless a record shows that.
    pub(in crate::tracker) fn expired(&self) -> Nanos {
        let is_shown = self.coverage.has(OptionalHook::TimeWait);
        if is_shown { self.now.saturating_sub(LATENESS) } else { self.now }
    }

    /// Counts one more in the gauges.
    pub(super) fn enter_time_wait(
        &mut self,
        end: &Transition,
        connection: &Connection,
        time_wait: TimeWait,
        is_provisional: bool,
    ) {
        let is_orphan = time_wait == TimeWait::InFinWait2;
        let (expired, time) = (self.expired(), end.time);
        let ends = Endpoints::from(end);
        let entry = Entry {
            key: key(connection.netns, ends),
            row: connection.row,
            is_guess: connection.role_assumed,
            expiry: (!is_orphan).then(|| expiry(time, LENGTH)),
        };
        // A scan may have found it before this record; or the record of an older one's end was lost.
        let before = self.time_waits.rows.enter(connection.netns, entry, self.scans);
        self.left(connection.netns, ends, entry.key, before, false);
        let row = self.rows.get_mut(connection.row);
        if is_orphan {
            row.scanned.entry(connection.netns).or_default().fin_wait2_orphans += 1;
        } else if is_provisional {
            row.time_waits.enter_provisionally(connection.netns, time, expired);
        } else {
            row.time_waits.enter(connection.netns, time, expired);
        }
        if let Some(scan) = &mut self.scan {
            scan.entered_time_wait(connection.netns, entry);
        }
    }

    /// An orphan in FIN_WAIT2 became a TIME_WAIT, or either is gone.
    pub(in crate::tracker) fn time_wait_changes(&mut self, change: &TimeWaitChange) {
        let &TimeWaitChange { time, netns, is_gone, .. } = change;
        let ends = Endpoints::from(change);
        if !self.coverage.has(OptionalHook::TimeWait) {
            return;
        }
        if is_gone {
            return self.leave_time_wait(netns, ends, true);
        }
        let (key, expired) = (key(netns, ends), self.expired());
        if let Some(entry) = self.time_waits.rows.become_time_wait(key, time)
            && self.is_row_of(entry.row, netns, ends)
        {
            // If the record of its entry was lost, it was counted as a TIME_WAIT already.
            self.leave(netns, &entry);
            self.rows.get_mut(entry.row).time_waits.enter(netns, time, expired);
        }
        if let Some(scan) = &mut self.scan {
            scan.turned_to_time_wait(netns, key, time);
        }
    }

    /// Removes the TIME_WAIT with these endpoints from the gauges, if there is one. `is_observed`: a
    /// record says that it is gone; otherwise that is inferred.
    pub(in crate::tracker) fn leave_time_wait(
        &mut self,
        netns: NetnsId,
        ends: Endpoints,
        is_observed: bool,
    ) {
        let key = key(netns, ends);
        let left = self.time_waits.rows.take(key);
        self.left(netns, ends, key, left, is_observed);
    }

    /// The same, given the entry if there is one.
    fn left(
        &mut self,
        netns: NetnsId,
        ends: Endpoints,
        key: EndpointPairKey,
        left: Option<Entry>,
        is_observed: bool,
    ) {
        if let Some(entry) = left
            && self.is_row_of(entry.row, netns, ends)
        {
            self.leave(netns, &entry);
        }
        if (is_observed || left.is_some())
            && let Some(scan) = &mut self.scan
        {
            scan.left_time_wait(netns, key);
        }
    }

    /// Removes an entry from the gauges of its row.
    fn leave(&mut self, netns: NetnsId, entry: &Entry) {
        let expired = self.expired();
        let row = self.rows.get_mut(entry.row);
        match entry.expiry {
            Some(expiry) => row.time_waits.leave(netns, expired, expiry.get()),
            None => row.lose_orphan(netns),
        }
    }

    /// Whether a row id still refers to a row for these endpoints: an idle row may have been removed
    /// and its id reused. The row may be coarser than its key for want of room.
    pub(in crate::tracker) fn is_row_of(
        &self,
        row: RowId,
        netns: NetnsId,
        ends: Endpoints,
    ) -> bool {
        self.rows.key(row).is_some_and(|key| {
            let port = key.role.service_port(ends.local, ends.remote);
            [0, netns].contains(&key.netns) && key.port.is_none_or(|of_row| of_row == port)
        })
    }
}
