//! The priority of the thread that takes the records.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::process::{getpriority_process, setpriority_process};

/// The nice value of that thread. Beside 64 runnable threads for each CPU, and interrupts on top, a thread of nice
/// value 0 does not run for a second at times, and one of −10 still for half of that, until rings of the default
/// size are full; one of −15 keeps up (`cargo xtask bench interrupts`).
const NICE: i32 = -15;

/// The nice value of processes for which nobody has chosen one.
const USUAL: i32 = 0;

static IS_RAISED: AtomicBool = AtomicBool::new(false);

/// Raises the priority of this thread, so that a busy host does not keep it from running until the rings are
/// full. It does nothing if the user has chosen a priority, or without CAP_SYS_NICE.
pub(crate) fn raise() {
    let is_usual = getpriority_process(None).is_ok_and(|nice| nice == USUAL);
    if is_usual && setpriority_process(None, NICE).is_ok() {
        IS_RAISED.store(true, Ordering::Relaxed);
    }
}

/// Gives a child process the priority that it would have without [`raise`]. It only makes system calls, so it can be
/// called between fork and exec.
pub(crate) fn restore() -> io::Result<()> {
    if IS_RAISED.load(Ordering::Relaxed) {
        setpriority_process(None, USUAL)?;
    }
    Ok(())
}
