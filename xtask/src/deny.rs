//! `cargo xtask deny`: checks the licences, versions, sources and advisories of all dependencies with
//! cargo-deny, by the rules in deny.toml.

use anyhow::bail;

use crate::{
    python,
    workspace::{Workspace, say},
};

/// The packages that have a lock file.
const MANIFESTS: [&str; 3] = ["Cargo.toml", "tracer/fuzz/Cargo.toml", "tracer-ebpf/Cargo.toml"];

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    python::provide(workspace)?;
    let mut checks = vec!["licenses", "bans", "sources"];
    // Advisories change daily, so no test depends on them.
    match cargo_deny(workspace, MANIFESTS[0], &["fetch", "db"]) {
        Ok(()) => checks.push("advisories"),
        Err(error) => say(format!(
            "SKIPPED: advisories were NOT checked, because their database cannot be reached: \
             {error:#}"
        )),
    }
    check(workspace, &checks)
}

/// The checks that need no network; the test run includes them.
pub(crate) fn check_offline(workspace: &Workspace) -> anyhow::Result<()> {
    if let Err(error) = python::provide(workspace) {
        say(format!("SKIPPED: licences and sources of dependencies were NOT checked.\n{error:#}"));
        return Ok(());
    }
    check(workspace, &["licenses", "bans", "sources"])
}

fn check(workspace: &Workspace, checks: &[&str]) -> anyhow::Result<()> {
    for manifest in MANIFESTS {
        // An exception applies to the one lock file that needs it.
        let check =
            ["check", "--hide-inclusion-graph", "--allow", "license-exception-not-encountered"];
        if cargo_deny(workspace, manifest, &[&check, checks].concat()).is_err() {
            bail!("dependencies in the lock file of {manifest} violate the rules in deny.toml");
        }
    }
    Ok(())
}

fn cargo_deny(workspace: &Workspace, manifest: &str, args: &[&str]) -> xshell::Result<()> {
    let program = workspace.root.join(python::PROGRAMS).join("cargo-deny");
    let deny = workspace.sh.cmd(program).quiet().args(["--locked", "--config", "deny.toml"]);
    deny.args(["--manifest-path", manifest]).args(args).run()
}
