//! Child processes that do not outlive this one, however it ends.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::sys::{prctl, signal::Signal};

/// Has the kernel kill the child when this process ends.
pub(super) fn bind(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only a system call is made.
    unsafe { command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from)) }
}

/// Runs a command to its end, and fails unless it succeeded.
pub(super) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = bind(command).status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed ({status})");
    }
    Ok(())
}

/// The same, and returns what it printed.
pub(super) fn read(command: &mut Command) -> anyhow::Result<String> {
    let output = bind(command).output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} printed no text"))
}

/// Waits until a child has ended, or kills it; whether it ended by itself.
pub(super) fn ended_within(child: &mut Child, limit: Duration) -> io::Result<bool> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(50));
    }
    child.kill()?;
    child.wait()?;
    Ok(false)
}
