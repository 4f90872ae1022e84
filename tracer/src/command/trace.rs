//! `trace`: every transition as it happens.

use std::io::{self, Write};

use super::Output;
use crate::{
    input::{ClockAnchor, Session, Transition},
    sink::{Lines, transition::TransitionLine},
    tracker::{Life, Observer},
};

/// Writes transitions.
pub(crate) struct Trace<W> {
    lines: Lines<W, TransitionLine>,
    clock: ClockAnchor,
}

impl<W: Write> Trace<W> {
    pub(crate) fn new(lines: Lines<W, TransitionLine>) -> Self {
        Self { lines, clock: ClockAnchor::default() }
    }
}

impl<W: Write> Observer for Trace<W> {
    fn transition(&mut self, transition: &Transition, life: Option<&Life>) {
        self.lines.write(&TransitionLine::new(transition, life, self.clock));
    }
}

impl<W: Write> Output for Trace<W> {
    fn begin(&mut self, session: &Session) {
        self.clock = session.clock;
    }

    fn settle(&mut self) -> io::Result<()> {
        self.lines.settle()
    }
}
