//! `trace`: every transition as it happens.

use std::io::{self, Write};

use super::{FirstError, Output};
use crate::{
    input::{ClockAnchor, Session, Transition},
    sink::transition::{TransitionLine, TransitionSink},
    tracker::{Life, Observer},
};

/// Writes transitions.
pub(crate) struct Trace<W> {
    sink: TransitionSink<W>,
    clock: ClockAnchor,
    error: FirstError,
}

impl<W: Write> Trace<W> {
    pub(crate) fn new(sink: TransitionSink<W>) -> Self {
        Self { sink, clock: ClockAnchor::default(), error: FirstError::default() }
    }
}

impl<W: Write> Observer for Trace<W> {
    fn transition(&mut self, transition: &Transition, life: Option<&Life>) {
        let line = TransitionLine::new(transition, life, self.clock);
        self.error.note(self.sink.write(&line));
    }
}

impl<W: Write> Output for Trace<W> {
    fn begin(&mut self, session: &Session) {
        self.clock = session.clock;
    }

    fn settle(&mut self) -> io::Result<()> {
        self.error.take()?;
        self.sink.flush()
    }
}
