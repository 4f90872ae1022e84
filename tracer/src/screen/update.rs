//! What the tracker's side hands to the screen's, which may be slower: what it has not taken yet is
//! added to.

use std::sync::{Arc, Mutex, PoisonError};

use super::connection_history::ConnectionHistory;
use crate::{trace::session::Session, tracker::Snapshot};

/// What there is to show after an interval.
pub(crate) struct Update {
    pub(crate) snapshot: Snapshot,
    /// Of those that live.
    pub(crate) living: Vec<Arc<ConnectionHistory>>,
    /// Since the last one.
    pub(crate) ended: Vec<Arc<ConnectionHistory>>,
    pub(crate) own: SelfUsage,
}

/// What synfin itself takes of this host.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SelfUsage {
    /// Percent of one processor, since the last moment; programs in the kernel are not in it.
    pub(crate) cpu_pct: f64,
    /// Resident memory.
    pub(crate) bytes: u64,
}

impl Update {
    /// Goes on with the next one.
    fn go_on(&mut self, later: Self) {
        /// More are not kept for a screen that has stopped.
        const ENDED: usize = 1 << 14;
        self.snapshot.go_on(&later.snapshot);
        self.living = later.living;
        self.own = later.own;
        self.ended.extend(later.ended);
        let surplus = self.ended.len().saturating_sub(ENDED);
        self.ended.drain(..surplus);
    }
}

/// What waits to be taken.
#[derive(Default)]
pub(crate) struct Pending {
    /// What the trace said of itself when it began.
    session: Option<Arc<Session>>,
    update: Option<Update>,
    is_over: bool,
}

/// The place between both sides.
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

    /// Nothing more comes.
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
