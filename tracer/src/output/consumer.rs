//! The interface between the loop over frames and whoever shows its results.

use std::{ops::ControlFlow, sync::Arc};

use anyhow::Result;

use crate::{
    message::stderr,
    trace::{session::Session, time::Nanos},
    tracker::{Change, ChangeKinds, Tracker},
};

/// What the loop over frames drives: a command or the screen. It sees each change that it asks
/// for, and reports what it could not write at the next [`Consumer::settle`].
pub(crate) trait Consumer {
    /// The changes that [`Consumer::change`] is to see.
    fn wanted_changes(&self) -> ChangeKinds {
        ChangeKinds::default()
    }

    /// Something happened that it asked for.
    fn change(&mut self, _change: &Change) {}

    /// The trace begins.
    fn begin(&mut self, _session: &Arc<Session>) {}

    /// Time has passed. `Break`: the command has all that it wants.
    fn tick(&mut self, _tracker: &mut Tracker) -> Result<ControlFlow<()>> {
        Ok(ControlFlow::Continue(()))
    }

    /// When it wants time to pass next.
    fn next_tick(&self) -> Option<Nanos> {
        None
    }

    /// A frame is done with: time to hand over what was written.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// There is something to tell the user besides the output.
    fn warn(&mut self, text: &str) {
        stderr::warn(text);
    }

    /// The trace is over.
    fn end(&mut self, _tracker: &mut Tracker) -> Result<()> {
        Ok(())
    }
}
