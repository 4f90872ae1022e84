//! `trace`: a line for each state transition, as it happens.

use std::io::{self, Write};

use synfin_common::state::TcpState;

use super::warn_unasked;
use crate::{
    output::{Lines, consumer::Consumer, transition::TransitionLine},
    trace::{session::Session, time::ClockAnchor},
    tracker::{Change, ChangeKinds, Tracker},
};

/// Writes a line per transition.
pub(crate) struct Trace<W> {
    lines: Lines<W, TransitionLine>,
    clock: ClockAnchor,
    /// Only transitions from or to one of these states; empty: all transitions.
    states: Vec<TcpState>,
    unasked: u64,
}

impl<W: Write> Trace<W> {
    pub(crate) fn new(lines: Lines<W, TransitionLine>, states: Vec<TcpState>) -> Self {
        Self { lines, clock: ClockAnchor::default(), states, unasked: 0 }
    }
}

impl<W: Write> Consumer for Trace<W> {
    fn wanted_changes(&self) -> ChangeKinds {
        ChangeKinds { transitions: true, ..ChangeKinds::default() }
    }

    fn change(&mut self, change: &Change) {
        let Change::Transition { transition, connection } = change else { return };
        let ends = [transition.old, transition.new];
        if !self.states.is_empty() && !ends.iter().any(|state| self.states.contains(state)) {
            self.unasked += 1;
            return;
        }
        self.lines.write(&TransitionLine::new(transition, connection.as_ref(), self.clock));
    }

    fn begin(&mut self, session: &Session) {
        self.clock = session.clock;
    }

    fn settle(&mut self) -> io::Result<()> {
        self.lines.settle()
    }

    fn end(&mut self, _tracker: &mut Tracker) -> io::Result<()> {
        warn_unasked(self.unasked, "transitions");
        Ok(())
    }
}
