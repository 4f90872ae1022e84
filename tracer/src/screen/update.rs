//! Passes updates from the run loop to the thread that draws. An update that has not been taken yet
//! is merged with the next one.

use std::sync::{Arc, Mutex, PoisonError};

use super::connection_history::ConnectionHistory;
use crate::{trace::session::Session, tracker::Snapshot};

/// The data of an interval.
pub(crate) struct Update {
    pub(crate) snapshot: Snapshot,
    /// A sample of the open connections.
    pub(crate) open: Vec<Arc<ConnectionHistory>>,
    /// The connections that closed in the interval.
    pub(crate) closed: Vec<Arc<ConnectionHistory>>,
    pub(crate) usage: SelfUsage,
}

/// CPU and memory usage of synfin itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SelfUsage {
    /// CPU time since the last update in percent of one CPU, without the eBPF programs.
    pub(crate) cpu_pct: f64,
    /// Resident memory in bytes; 0 if unknown.
    pub(crate) bytes: u64,
}

impl Update {
    /// Merges a later update into this one.
    fn merge_next(&mut self, later: Self) {
        /// Maximum number of closed connections kept while nothing is drawn.
        const CLOSED_LIMIT: usize = 1 << 14;
        self.snapshot.merge_next(&later.snapshot);
        self.open = later.open;
        self.usage = later.usage;
        self.closed.extend(later.closed);
        let surplus = self.closed.len().saturating_sub(CLOSED_LIMIT);
        self.closed.drain(..surplus);
    }
}

/// Data that the drawing thread has not taken yet.
#[derive(Default)]
pub(crate) struct Pending {
    /// The session, set at the start of the trace.
    session: Option<Arc<Session>>,
    update: Option<Update>,
    is_over: bool,
}

/// The slot shared by the run loop and the drawing thread.
#[derive(Clone, Default)]
pub(crate) struct Mailbox(Arc<Mutex<Pending>>);

impl Mailbox {
    pub(crate) fn begin(&self, session: Arc<Session>) {
        self.with(|pending| pending.session = Some(session));
    }

    pub(crate) fn put(&self, update: Update) {
        self.with(|pending| match &mut pending.update {
            Some(waiting) => waiting.merge_next(update),
            none => *none = Some(update),
        });
    }

    /// Marks the end of the trace.
    pub(crate) fn end(&self) {
        self.with(|pending| pending.is_over = true);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.with(|pending| pending.is_over)
    }

    pub(crate) fn take(&self) -> (Option<Arc<Session>>, Option<Update>) {
        self.with(|pending| (pending.session.take(), pending.update.take()))
    }

    fn with<T>(&self, access: impl FnOnce(&mut Pending) -> T) -> T {
        access(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
