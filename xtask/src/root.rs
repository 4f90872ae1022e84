//! Runs programs as root, which loading eBPF programs and creating network namespaces needs.

use std::{fs, os::unix::fs::MetadataExt as _};

use anyhow::bail;

use crate::workspace::{find_program, say};

pub(crate) fn is_root() -> bool {
    // A process owns its own directory in /proc.
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// The prefix of a command that makes it run as root; empty for root.
pub(crate) fn prefix(program: &str) -> anyhow::Result<&'static [&'static str]> {
    if is_root() {
        return Ok(&[]);
    }
    if find_program("sudo").is_none() {
        bail!(
            "{program} must run as root, and there is no sudo here: \
             run this command as root, or install sudo"
        );
    }
    say(format!("{program} must run as root: using sudo"));
    // `-E` keeps variables such as NO_COLOR and RUST_BACKTRACE.
    Ok(&["sudo", "-E"])
}

/// Options that make cargo run the built program as root.
pub(crate) fn cargo_options(program: &str) -> anyhow::Result<Vec<String>> {
    Ok(match prefix(program)? {
        [] => vec![],
        words => vec!["--config".into(), format!("target.'cfg(all())'.runner = {words:?}")],
    })
}
