//! What each command does: most of them, with the tracker's values.

pub(crate) mod anonymize;
mod compare;
mod completions;
mod connections;
mod diagnose;
#[cfg(feature = "live")]
mod doctor;
mod explain;
mod man;
#[cfg(feature = "live")]
mod record;
mod report;
#[cfg(feature = "live")]
mod serve;
mod trace;

use std::{io, ops::ControlFlow};

pub(crate) use anonymize::anonymize;
pub(crate) use compare::{OneReport, reports_in, write as write_comparison};
pub(crate) use completions::completions;
pub(crate) use connections::{Connections, Select, Which};
pub(crate) use diagnose::Diagnose;
#[cfg(feature = "live")]
pub(crate) use doctor::Doctor;
pub(crate) use explain::explain;
pub(crate) use man::man;
#[cfg(feature = "live")]
pub(crate) use record::Record;
pub(crate) use report::Report;
#[cfg(feature = "live")]
pub(crate) use serve::Serve;
pub(crate) use trace::Trace;

use crate::{
    message::stderr::warn,
    trace::{session::Session, time::Nanos},
    tracker::{Change, ChangeKinds, Tracker},
};

/// Says how much was not shown for want of a reason, state or age that was asked for.
fn warn_unasked(count: u64, what: &str) {
    if count > 0 {
        warn(&format!(
            "{count} {what} are not shown: they do not match --reason, --state or --min-age"
        ));
    }
}

/// A command's side of the loop over frames. It sees each change that it asks for; what it could
/// not write then, it says at the next [`Output::settle`].
pub(crate) trait Output {
    /// The changes that [`Output::change`] is to see.
    fn wanted_changes(&self) -> ChangeKinds {
        ChangeKinds::default()
    }

    /// Something happened that it asked for.
    fn change(&mut self, _change: &Change) {}

    /// The trace begins.
    fn begin(&mut self, _session: &Session) {}

    /// Time has passed. `Break`: the command has all that it wants.
    fn tick(&mut self, _tracker: &mut Tracker) -> io::Result<ControlFlow<()>> {
        Ok(ControlFlow::Continue(()))
    }

    /// When it wants time to pass next.
    fn next_tick(&self) -> Option<Nanos> {
        None
    }

    /// A frame is done with: time to hand over what was written.
    fn settle(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The trace is over.
    fn end(&mut self, _tracker: &mut Tracker) -> io::Result<()> {
        Ok(())
    }
}
