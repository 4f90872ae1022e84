//! `trace`: a line for each state transition, as it happens.

use std::{io::Write, sync::Arc};

use anyhow::Result;
use synfin_common::state::TcpState;

use super::warn_excluded;
use crate::{
    cli::commands::TraceArgs,
    message::exit::Exit,
    output::{
        Lines,
        consumer::Consumer,
        transition::{self, TransitionLine},
    },
    run::{Run, RunMode},
    trace::{session::Session, time::ClockAnchor},
    tracker::{Change, ChangeKinds, Tracker},
};

pub(crate) async fn run(args: TraceArgs, verbose: u8) -> Result<Exit> {
    let lines = Lines::new(args.source.stdout()?, args.output.style(), transition::COLUMNS);
    let mut output = Trace::new(lines, args.state);
    let run = Run::open(args.source, verbose)?.with_command(args.run);
    run.go(RunMode::UntilSignal, &mut output).await
}

/// Writes a line per transition.
pub(crate) struct Trace<W> {
    lines: Lines<W, TransitionLine>,
    clock: ClockAnchor,
    /// Only transitions from or to one of these states; empty: all transitions.
    states: Vec<TcpState>,
    excluded: u64,
}

impl<W: Write> Trace<W> {
    pub(crate) fn new(lines: Lines<W, TransitionLine>, states: Vec<TcpState>) -> Self {
        Self { lines, clock: ClockAnchor::default(), states, excluded: 0 }
    }
}

impl<W: Write> Consumer for Trace<W> {
    fn wanted_changes(&self) -> ChangeKinds {
        ChangeKinds { transitions: true, ..ChangeKinds::default() }
    }

    fn change(&mut self, change: &Change) {
        let Change::Transition { transition, netns_inode, connection } = change else { return };
        let ends = [transition.old, transition.new];
        if !self.states.is_empty() && !ends.iter().any(|state| self.states.contains(state)) {
            self.excluded += 1;
            return;
        }
        self.lines.write(&TransitionLine::new(
            transition,
            *netns_inode,
            connection.as_ref(),
            self.clock,
        ));
    }

    fn begin(&mut self, session: &Arc<Session>) {
        self.clock = session.clock;
    }

    fn flush(&mut self) -> Result<()> {
        Ok(self.lines.flush()?)
    }

    fn end(&mut self, _tracker: &mut Tracker) -> Result<()> {
        warn_excluded(self.excluded, "transitions");
        Ok(())
    }
}
