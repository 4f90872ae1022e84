//! A wrapper of rustc for eBPF builds, which makes symbols independent of the directory.
//! They contain a hash, and cargo hashes the absolute path of a dependency outside of the workspace,
//! such as tracer-common (rust-lang/cargo#7645).

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::Context as _;
use xshell::Cmd;

use crate::workspace::say;

/// Set if xtask runs as the wrapper.
const MARKER: &str = "SYNFIN_XTASK_IS_RUSTC";

/// Makes a cargo command call rustc through this program.
pub(crate) fn wrap(cargo: Cmd<'_>) -> anyhow::Result<Cmd<'_>> {
    let xtask = env::current_exe().context("cannot find the path of xtask")?;
    Ok(cargo.env("RUSTC_WRAPPER", xtask).env(MARKER, "1"))
}

pub(crate) fn is_wrapped() -> bool {
    env::var_os(MARKER).is_some()
}

/// Replaces this process, which cargo called as `xtask RUSTC ARGS…`, by that rustc.
pub(crate) fn exec() -> ExitCode {
    let mut words = env::args_os().skip(1);
    let rustc = words.next().unwrap_or_else(|| "rustc".into());
    let ours = env::var("CARGO_PKG_NAME").is_ok_and(|name| name.starts_with("synfin"));
    let args: Vec<_> = if ours { words.map(without_path_hash).collect() } else { words.collect() };
    let error = Command::new(&rustc).args(args).exec();
    say(format!("cannot start {}: {error}", rustc.display()));
    ExitCode::FAILURE
}

/// Our crates have different names, so all of them can have the same hash.
fn without_path_hash(arg: OsString) -> OsString {
    let is_hash = arg.to_str().is_some_and(|arg| arg.starts_with("metadata="));
    if is_hash { "metadata=synfin".into() } else { arg }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hash_is_replaced() {
        let cargos =
            ["--crate-name", "floor", "-C", "metadata=0123abcd", "-C", "extra-filename=-0"];
        let ours = ["--crate-name", "floor", "-C", "metadata=synfin", "-C", "extra-filename=-0"];
        assert!(cargos.into_iter().map(|arg| without_path_hash(arg.into())).eq(ours));
    }
}
