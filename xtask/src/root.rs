//! Running things as root, which loading eBPF programs and making network namespaces take.

use std::{fs, os::unix::fs::MetadataExt as _};

use anyhow::bail;

use crate::workspace::{find_program, say};

pub(crate) fn are_we() -> bool {
    // A process owns its own folder in /proc.
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// The words to put before a program so that it runs as root: none if we are root already.
pub(crate) fn prefix(program: &str) -> anyhow::Result<&'static [&'static str]> {
    if are_we() {
        return Ok(&[]);
    }
    if find_program("sudo").is_none() {
        bail!(
            "{program} must run as root, and there is no sudo here: \
             run this command as root, or install sudo"
        );
    }
    say(format!("{program} must run as root: using sudo"));
    // Keeps NO_COLOR, RUST_BACKTRACE and the like.
    Ok(&["sudo", "-E"])
}

/// The same for what cargo builds and runs: options that make it use that prefix.
pub(crate) fn cargo_options(program: &str) -> anyhow::Result<Vec<String>> {
    Ok(match prefix(program)? {
        [] => vec![],
        words => vec!["--config".into(), format!("target.'cfg(all())'.runner = {words:?}")],
    })
}
