//! Passes updates from the tracker's side to the screen's, which may be slower: a new update is
//! merged into one that has not been taken yet.

use std::sync::{Arc, Mutex, PoisonError};

use super::connection_history::ConnectionHistory;
use crate::{trace::session::Session, tracker::Snapshot};

/// The data of an interval.
pub(crate) struct Update {
    pub(crate) snapshot: Snapshot,
    /// A sample of the open connections.
    pub(crate) living: Vec<Arc<ConnectionHistory>>,
    /// The connections that ended in the interval.
    pub(crate) ended: Vec<Arc<ConnectionHistory>>,
    pub(crate) own: SelfUsage,
}

/// The resources that synfin itself uses on this host.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SelfUsage {
    /// CPU time since the last update in percent of one CPU, without the programs in the kernel.
    pub(crate) cpu_pct: f64,
    /// Resident memory in bytes.
    pub(crate) bytes: u64,
}

impl Update {
    /// Merges a later update into this one.
    fn go_on(&mut self, later: Self) {
        /// Maximum number kept for a screen that has stopped.
        const ENDED: usize = 1 << 14;
        self.snapshot.merge_next(&later.snapshot);
        self.living = later.living;
        self.own = later.own;
        self.ended.extend(later.ended);
        let surplus = self.ended.len().saturating_sub(ENDED);
        self.ended.drain(..surplus);
    }
}

/// Data that the screen has not taken yet.
#[derive(Default)]
pub(crate) struct Pending {
    /// The session as announced at the start of the trace.
    session: Option<Arc<Session>>,
    update: Option<Update>,
    is_over: bool,
}

/// The shared slot between both sides.
#[derive(Clone, Default)]
pub(crate) struct Mailbox(Arc<Mutex<Pending>>);

impl Mailbox {
    pub(crate) fn begin(&self, session: Arc<Session>) {
        self.with(|pending| pending.session = Some(session));
    }

    pub(crate) fn put(&self, update: Update) {
        self.with(|pending| match &mut pending.update {
            Some(waiting) => waiting.go_on(update),
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

    fn with<T>(&self, look: impl FnOnce(&mut Pending) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
