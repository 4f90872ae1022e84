//! Sources of frames: the live kernel or a recording. Both produce the same kinds of frames in the
//! same order, so that the later stages need not distinguish them.

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

/// A future of the next frame of a source; `None` at its end.
pub type NextFrame<'a> = Pin<Box<dyn Future<Output = Result<Option<Frame>>> + 'a>>;

/// What a round of scans over the network namespaces is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Round {
    /// Changes since the last scan of each namespace.
    #[default]
    Update,
    /// All sockets, as if no namespace had been scanned before.
    Full,
}

/// What a round of scans should read of a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Nothing: it cannot have changed, or a filter excludes it.
    Nothing,
    /// The kernel's counters, whose growth makes a scan worthwhile.
    Counters,
    /// All sockets, and the kernel's counters.
    Sockets,
    /// The same, after a scan of the open files of all processes, which shows who holds the sockets.
    SocketsAndHolders,
}

/// A stream of frames, beginning with the [`Session`](crate::trace::session::Session).
///
/// Every method that changes the stream, except [`next`](Self::next), applies to a live source
/// only. A recording ignores it, because its frames, its ticks and its end are fixed.
pub trait Source {
    /// Waits for the next frame; `None` at the end. Cancel safe: dropping the future loses no
    /// frame.
    fn next(&mut self) -> NextFrame<'_>;

    /// Whether this source traces this host rather than reading a recording.
    fn is_live(&self) -> bool {
        false
    }

    /// Messages for the user since the last call, which are no part of the recording.
    fn take_messages(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Ends the stream after a last scan and a last drain of the ring buffer.
    fn finish(&mut self) {}

    /// Requests a tick at `time` (CLOCK_MONOTONIC, nanoseconds) or soon after.
    fn tick_at(&mut self, _time: Nanos) {}

    /// Sets the end of the consumer's present interval (CLOCK_MONOTONIC, nanoseconds). A round of
    /// scans then completes the interval, if it can be afforded: until the round is over, ticks say
    /// that they await it.
    fn end_interval_at(&mut self, _time: Nanos) {}

    /// Requests a scan of all network namespaces, as if none had been scanned before.
    fn restart_scans(&mut self) {}

    /// Plans the next scan. Call it after each tick. `want` says what of a network namespace such a
    /// round should read.
    fn plan_scans(&mut self, _want: &dyn Fn(NetnsId, Round) -> Want) {}

    /// Whether the first scan, which finds the connections that are older than the trace, is over.
    fn is_seeded(&self) -> bool {
        true
    }
}
