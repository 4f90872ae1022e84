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

#[cfg(test)]
mod tests {
    use std::{
        env, fs,
        io::{BufRead as _, BufReader},
        process::Stdio,
    };

    use super::*;

    /// Set in the process that is to be killed.
    const IS_PARENT: &str = "SYNFIN_XTASK_TEST_IS_PARENT";

    #[test]
    fn a_child_does_not_outlive_its_parent_that_is_killed() {
        if env::var_os(IS_PARENT).is_some() {
            let mut child = bind(Command::new("sleep").arg("600")).spawn().unwrap();
            println!("child {}", child.id());
            child.wait().unwrap();
            return;
        }
        let this = "vm::children::tests::a_child_does_not_outlive_its_parent_that_is_killed";
        let mut parent = Command::new(env::current_exe().unwrap())
            .args(["--exact", this, "--nocapture"])
            .env(IS_PARENT, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(parent.stdout.take().unwrap()).lines().map_while(Result::ok);
        let child = lines
            .filter_map(|line| Some(line.split_once("child ")?.1.to_owned()))
            .next()
            .expect("the child's number");
        let is_alive = || {
            // Nobody need have waited for it.
            let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            stat.contains("(sleep)") && !stat.contains(") Z ")
        };
        assert!(is_alive());
        parent.kill().unwrap();
        parent.wait().unwrap();
        let begun = Instant::now();
        while is_alive() {
            assert!(begun.elapsed() < Duration::from_secs(10), "the child {child} lives on");
            thread::sleep(Duration::from_millis(10));
        }
    }
}
