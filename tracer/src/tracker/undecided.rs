//! The gate before the books: which sockets' records the filters let in.
//!
//! A record that cannot decide yet is kept back until one of the same socket can; then all of
//! them are let in, in their order, or none. So every figure is as if the kernel had recorded
//! nothing else, and a filter never loses a birth.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use super::scan::{CONNECT_DELAY, MISSED_SCANS_LIMIT};
use crate::trace::{
    event::Input,
    filter::{Facts, Filter},
    ids::{NetnsId, SockId},
    time::Nanos,
};

/// More sockets than this are not kept apart: what is not decided yet is left out.
const LIMIT: usize = 1 << 18;

/// A connection has few records before it is known whose it is; one with more will not be known.
const RECORDS_LIMIT: usize = 16;

/// What stands between the records and the books.
#[derive(Debug, Default)]
pub(super) struct UndecidedSockets {
    filters: Vec<Filter>,
    kept: HashMap<SockId, UndecidedSocket, FxBuildHasher>,
    /// Records left out.
    filtered: u64,
    /// Records kept back.
    waiting: u64,
}

/// A socket that is not in the books.
#[derive(Debug)]
struct UndecidedSocket {
    netns: NetnsId,
    /// When its last transition was.
    seen: Nanos,
    /// The last scan that met it.
    last_scan: u32,
    /// How many scans in a row missed it.
    missed_scans: u8,
    /// Records kept back; `None`: the filters exclude it.
    records: Option<Vec<Input>>,
}

/// What the gate knows of a socket.
pub(super) enum Decision<'a> {
    /// Nothing.
    Nothing,
    /// The filters exclude it.
    Excluded,
    /// These records, of a socket in this namespace, have not decided.
    Waiting(&'a [Input], NetnsId),
}

impl UndecidedSockets {
    pub(super) fn new(filters: Vec<Filter>) -> Self {
        let filters = filters.into_iter().filter(|filter| !filter.is_empty()).collect();
        Self { filters, ..Self::default() }
    }

    /// Whether everything is let in.
    pub(super) fn admits_everything(&self) -> bool {
        self.filters.is_empty()
    }

    /// Whether anything in this namespace can be let in.
    pub(super) fn may_be_in(&self, netns: NetnsId) -> bool {
        self.filters.iter().all(|filter| filter.may_be_in(netns))
    }

    pub(super) fn judge(&self, facts: &Facts<'_>) -> Option<bool> {
        let mut answer = Some(true);
        for filter in &self.filters {
            match filter.judge(facts) {
                Some(true) => {}
                Some(false) => return Some(false),
                None => answer = None,
            }
        }
        answer
    }

    pub(super) fn decision(&self, sock: SockId) -> Decision<'_> {
        match self.kept.get(&sock) {
            None => Decision::Nothing,
            Some(UndecidedSocket { records: None, .. }) => Decision::Excluded,
            Some(UndecidedSocket { records: Some(records), netns, .. }) => {
                Decision::Waiting(records, *netns)
            }
        }
    }

    /// Counts a record that is left out.
    pub(super) fn count_filtered(&mut self) {
        self.filtered += 1;
    }

    /// From now on the socket's records are left out; those that were kept back are as well.
    pub(super) fn exclude(&mut self, sock: SockId, netns: NetnsId, seen: Nanos) {
        self.forget(sock);
        if self.kept.len() < LIMIT {
            self.kept.insert(
                sock,
                UndecidedSocket { netns, seen, last_scan: 0, missed_scans: 0, records: None },
            );
        }
    }

    /// Keeps a record back until it is known whose it is.
    pub(super) fn hold(&mut self, sock: SockId, netns: NetnsId, seen: Nanos, record: Input) {
        if self.kept.len() >= LIMIT && !self.kept.contains_key(&sock) {
            return self.count_filtered();
        }
        let kept = self.kept.entry(sock).or_insert(UndecidedSocket {
            netns,
            seen,
            last_scan: 0,
            missed_scans: 0,
            records: Some(Vec::new()),
        });
        if matches!(record, Input::Transition(_)) {
            kept.seen = seen;
        }
        match &mut kept.records {
            Some(records) if records.len() < RECORDS_LIMIT => {
                records.push(record);
                self.waiting += 1;
            }
            Some(_) => {
                self.exclude(sock, netns, seen);
                self.count_filtered();
            }
            None => self.count_filtered(),
        }
    }

    /// Takes the records that were kept back, to be let in.
    pub(super) fn admit(&mut self, sock: SockId) -> Vec<Input> {
        let records = self.kept.remove(&sock).and_then(|kept| kept.records).unwrap_or_default();
        self.waiting -= records.len() as u64;
        records
    }

    /// The socket is gone, or its address is used anew. What was kept back is left out.
    pub(super) fn forget(&mut self, sock: SockId) {
        self.filtered += self.admit(sock).len() as u64;
    }

    /// A scan met the socket at this time. Says whether that is news: not if a later record has
    /// been kept.
    pub(super) fn on_scan(&mut self, sock: SockId, scan: u32, time: Nanos) -> bool {
        self.kept.get_mut(&sock).is_none_or(|kept| {
            kept.last_scan = scan;
            kept.missed_scans = 0;
            kept.seen <= time
        })
    }

    /// A scan is over: sockets that it and the one before should have met and did not are gone.
    /// Their ends were left out by the kernel side.
    pub(super) fn forget_absent(&mut self, netns: NetnsId, scan: u32, begun: Nanos) {
        let mut gone = Vec::new();
        for (&sock, kept) in &mut self.kept {
            let is_old = kept.seen.saturating_add(CONNECT_DELAY) < begun;
            if kept.netns == netns && kept.last_scan != scan && is_old {
                kept.missed_scans += 1;
                if kept.missed_scans >= MISSED_SCANS_LIMIT {
                    gone.push(sock);
                }
            }
        }
        for sock in gone {
            self.forget(sock);
        }
    }

    /// No more records come: what has not been decided never will be.
    pub(super) fn close(&mut self) {
        for kept in std::mem::take(&mut self.kept).into_values() {
            self.filtered += kept.records.map_or(0, |records| records.len() as u64);
        }
        self.waiting = 0;
    }

    /// Sockets whose records are kept back.
    pub(super) fn waiting_socks(&self) -> Vec<SockId> {
        let waiting = self.kept.iter().filter(|(_, kept)| kept.records.is_some());
        waiting.map(|(&sock, _)| sock).collect()
    }

    /// Records left out so far.
    pub(super) fn filtered(&self) -> u64 {
        self.filtered
    }

    /// Records kept back at the moment.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }
}
