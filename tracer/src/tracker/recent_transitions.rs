//! The latest transitions, by which a transition that two programs of the main hook have recorded is known.
//!
//! A later program records a transition unless another one took it last on its CPU
//! (`tracer-ebpf/src/taken.rs`). If an interrupt came between the two programs, or the task was preempted
//! there, and other transitions came meanwhile, both have recorded it.

use synfin_common::event::Flags;

use crate::trace::{event::Transition, ids::SockId};

/// Number of transitions kept: more than come while a task is preempted.
const KEPT: usize = 16 * 1024;

/// The latest transitions, in a ring.
#[derive(Debug)]
pub(super) struct RecentTransitions {
    latest: Box<[Recent]>,
    next: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Recent {
    sock: SockId,
    states: u16,
}

impl Default for RecentTransitions {
    fn default() -> Self {
        Self { latest: vec![Recent::default(); KEPT].into(), next: 0 }
    }
}

impl RecentTransitions {
    /// Notes a transition. Returns whether it is already known: a socket does not change between the
    /// programs, so no other transition of the socket comes between the two records.
    pub(super) fn repeats(&mut self, transition: &Transition) -> bool {
        let [old, new] = [transition.old, transition.new].map(|state| u16::from(state.number()));
        let this = Recent { sock: transition.sock, states: old << 8 | new };
        if transition.flags.contains(Flags::RECOVERED) && self.last_of(this.sock) == Some(this) {
            return true;
        }
        self.latest[self.next] = this;
        self.next = (self.next + 1) % KEPT;
        false
    }

    /// The last transition of a socket.
    fn last_of(&self, sock: SockId) -> Option<Recent> {
        let (newer, older) = self.latest.split_at(self.next);
        newer.iter().rev().chain(older.iter().rev()).find(|it| it.sock == sock).copied()
    }
}
