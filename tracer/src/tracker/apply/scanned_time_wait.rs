//! Applies the TIME_WAITs that scans find.

use crate::{
    tcp::role::Role,
    trace::scan::ScannedTimeWait,
    tracker::{
        Tracker,
        endpoints::Endpoints,
        row_key::RowId,
        scan::{FoundTimeWait, SocketScan},
        time_wait_rows::{EndpointPairKey, Entry, key},
    },
};

impl Tracker {
    pub(in crate::tracker) fn apply_scanned_time_wait(&mut self, time_wait: &ScannedTimeWait) {
        self.with_scan(|tracker, scan| {
            let key = key(scan.netns, time_wait.into());
            if let Some(sock) = tracker.undecided.closed(key) {
                let role = tracker.role_of(scan.netns, time_wait.into(), time_wait.port_by_connect);
                tracker.undecided.learn_role(sock, role);
                scan.deferred.time_waits.push(time_wait.clone());
            } else {
                tracker.apply_found_time_wait(scan, time_wait);
            }
        });
    }

    pub(super) fn apply_found_time_wait(
        &mut self,
        scan: &mut SocketScan,
        time_wait: &ScannedTimeWait,
    ) {
        let key = key(scan.netns, time_wait.into());
        // A TIME_WAIT with these endpoints that ended since the scan began may be the one found.
        if !scan.left.contains(&key)
            && let Some((row, is_guess)) = self.row_of_time_wait(scan, key, time_wait)
        {
            let expiry = scan.expiry(time_wait);
            scan.entered.remove(&key);
            let is_bound = time_wait.port_by_connect == Some(false);
            let local = self.rows.local_port(row, time_wait.local, is_bound);
            let entry = Entry { key, row, is_guess, expiry, local };
            let is_counted = self.time_waits.rows.on_scan(&entry, scan.number);
            scan.found.insert(key, FoundTimeWait { entry, is_counted });
        }
    }

    /// The row of a TIME_WAIT that a scan found, and whether a later scan may correct it; `None` if
    /// a filter excludes it, or until the end of the scan.
    fn row_of_time_wait(
        &mut self,
        scan: &mut SocketScan,
        key: EndpointPairKey,
        time_wait: &ScannedTimeWait,
    ) -> Option<(RowId, bool)> {
        let endpoints = Endpoints::from(time_wait);
        if let Some(entry) = scan.entered.get(&key).filter(|entry| !entry.is_guess) {
            return Some((entry.row, false));
        }
        let known = self.time_waits.rows.get(key).filter(|known| !known.is_guess);
        if let Some(known) = known.filter(|known| self.is_row_of(known, scan.netns, endpoints)) {
            return Some((known.row, false));
        }
        let role = self.role_of(scan.netns, endpoints, time_wait.port_by_connect);
        if role == Role::Unknown && !scan.deferred.is_over {
            scan.deferred.time_waits.push(time_wait.clone());
            return None;
        }
        if !self.admits_time_wait(scan.netns, role, time_wait) {
            return None;
        }
        let row = self.row_key(scan.netns, role, endpoints, None);
        Some((self.rows.row(row, true), role == Role::Unknown))
    }
}
