//! What sockets leave behind, booked: TIME_WAIT, or an orphan in FIN_WAIT2 on the way there.

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
    /// Before its end a socket shows what it is about to leave behind.
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

    /// TIME_WAITs that were to end by this time are gone, as far as that is not shown.
    pub(in crate::tracker) fn expired(&self) -> Nanos {
        let is_shown = self.coverage.has(OptionalHook::TimeWait);
        if is_shown { self.now.saturating_sub(LATENESS) } else { self.now }
    }

    /// The gauges have one more.
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
        // A scan may have met it before its end was told; or the end of an older one was lost.
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

    /// An orphan in FIN_WAIT2 has become a TIME_WAIT, or either is gone.
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
        if let Some(entry) = self.time_waits.rows.turn(key, time)
            && self.is_row_of(entry.row, netns, ends)
        {
            // Where its entry was lost, it was taken for a TIME_WAIT.
            self.leave(netns, &entry);
            self.rows.get_mut(entry.row).time_waits.enter(netns, time, expired);
        }
        if let Some(scan) = &mut self.scan {
            scan.turned_to_time_wait(netns, key, time);
        }
    }

    /// The gauges have one less, if there was one at these ends. `is_seen`: the kernel says that it
    /// is gone; otherwise it must be.
    pub(in crate::tracker) fn leave_time_wait(
        &mut self,
        netns: NetnsId,
        ends: Endpoints,
        is_seen: bool,
    ) {
        let key = key(netns, ends);
        let left = self.time_waits.rows.take(key);
        self.left(netns, ends, key, left, is_seen);
    }

    /// The same, where it is known how it was booked, if it was.
    fn left(
        &mut self,
        netns: NetnsId,
        ends: Endpoints,
        key: EndpointPairKey,
        left: Option<Entry>,
        is_seen: bool,
    ) {
        if let Some(entry) = left
            && self.is_row_of(entry.row, netns, ends)
        {
            self.leave(netns, &entry);
        }
        if (is_seen || left.is_some())
            && let Some(scan) = &mut self.scan
        {
            scan.left_time_wait(netns, key);
        }
    }

    /// As it was booked, it is no more.
    fn leave(&mut self, netns: NetnsId, entry: &Entry) {
        let expired = self.expired();
        let row = self.rows.get_mut(entry.row);
        match entry.expiry {
            Some(expiry) => row.time_waits.leave(netns, expired, expiry.get()),
            None => row.lose_orphan(netns),
        }
    }

    /// Whether a row is still that of a TIME_WAIT at these ends: one in which nothing lived may
    /// have been given up. One that tells less apart may have been all that there was room for.
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
