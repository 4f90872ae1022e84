//! Where frames come from: the live kernel or a recording. Both give the same kinds of frames in
//! the same order, and what follows cannot tell them apart.

#[cfg(feature = "live")]
mod live;
#[cfg(feature = "live")]
pub mod names;
mod replay;
#[cfg(feature = "live")]
pub(crate) mod scan_schedule;
#[cfg(feature = "live")]
mod session;

use std::pin::Pin;

use anyhow::Result;
#[cfg(feature = "live")]
pub use live::Live;
pub use replay::Replay;

use crate::trace::{ids::NetnsId, recording::Frame, time::Nanos};

/// The next frame of a source; `None` at its end.
pub type NextFrame<'a> = Pin<Box<dyn Future<Output = Result<Option<Frame>>> + 'a>>;

/// A stream of frames, beginning with the [`Session`](crate::trace::session::Session).
///
/// All but [`next`](Self::next) steers a live source. A recording has its own order, its own ticks
/// and its own end, so that it takes no notice.
pub trait Source {
    /// The next frame. Dropping the future loses nothing.
    fn next(&mut self) -> NextFrame<'_>;

    /// Whether this host is traced, not a recording read.
    fn is_live(&self) -> bool {
        false
    }

    /// Messages for the user since the last call, which are no part of the recording.
    fn take_messages(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Ends the stream: a last scan, a last drain, then no more frames.
    fn finish(&mut self) {}

    /// Asks for a tick at `time`, or soon after.
    fn tick_at(&mut self, _time: Nanos) {}

    /// Asks for a scan of all namespaces, as if there had been none before.
    fn restart_scans(&mut self) {}

    /// Tells which namespaces are worth a scan, and which would be if there had been none before;
    /// to be called after each tick.
    fn plan_scans(&mut self, _wanted: &dyn Fn(NetnsId, bool) -> bool) {}

    /// Whether the first scan, which adopts the connections that were there before, is over.
    fn is_seeded(&self) -> bool {
        true
    }
}
