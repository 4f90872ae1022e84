//! The interface between the loop over frames and the commands that show its results.

use std::{ops::ControlFlow, sync::Arc};

use anyhow::Result;

use crate::{
    message::stderr,
    trace::{session::Session, time::Nanos},
    tracker::{Change, ChangeKinds, Tracker},
};

/// A command or the screen, driven by the loop over frames. Errors while writing are returned by the
/// next [`Consumer::flush`].
pub(crate) trait Consumer {
    /// The kinds of changes that [`Consumer::change`] receives.
    fn wanted_changes(&self) -> ChangeKinds {
        ChangeKinds::default()
    }

    /// Whether [`Tracker::traffic`] is to be known.
    fn wants_traffic(&self) -> bool {
        false
    }

    /// Receives a change of a wanted kind.
    fn change(&mut self, _change: &Change) {}

    /// Called when the trace begins.
    fn begin(&mut self, _session: &Arc<Session>) {}

    /// Called when the time of [`Consumer::next_tick`] has come. `Break` ends the trace.
    fn tick(&mut self, _tracker: &mut Tracker) -> Result<ControlFlow<()>> {
        Ok(ControlFlow::Continue(()))
    }

    /// The time of the next tick; `None` for no tick.
    fn next_tick(&self) -> Option<Nanos> {
        None
    }

    /// Called after each frame, to flush what was written.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    /// Shows a warning to the user.
    fn warn(&mut self, text: &str) {
        stderr::warn(text);
    }

    /// Called when the trace has ended.
    fn end(&mut self, _tracker: &mut Tracker) -> Result<()> {
        Ok(())
    }
}
