//! Whether synfin may wait for those who read its output.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether a live trace is running.
static IS_TRACING: AtomicBool = AtomicBool::new(false);

/// Whether synfin was asked to end by someone who does not wait for long.
static MUST_END_SOON: AtomicBool = AtomicBool::new(false);

/// A live trace. While it runs, nothing waits for the readers of stdout and stderr: the kernel's records
/// would be lost meanwhile, and no signal would be heard.
pub(crate) struct Tracing(());

impl Tracing {
    /// A live trace begins. It ends when this is dropped.
    pub(crate) fn begin() -> Self {
        IS_TRACING.store(true, Relaxed);
        Self(())
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        IS_TRACING.store(false, Relaxed);
    }
}

/// Whether a live trace is running.
pub(crate) fn is_tracing() -> bool {
    IS_TRACING.load(Relaxed)
}

/// From now on the end may be delayed only by a few seconds.
#[cfg(feature = "live")]
pub(crate) fn end_soon() {
    MUST_END_SOON.store(true, Relaxed);
}

/// Whether the end may be delayed only by a few seconds.
pub(crate) fn must_end_soon() -> bool {
    MUST_END_SOON.load(Relaxed)
}

/// Whether synfin may wait for a reader as long as that takes.
pub(crate) fn may_wait() -> bool {
    !is_tracing() && !must_end_soon()
}
