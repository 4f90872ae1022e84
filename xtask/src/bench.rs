//! `cargo xtask bench`: measures synfin's overhead and limits beside other tools, and the time of its
//! stages; writes `docs/performance.md`.

use std::{env, ffi::OsString};

use anyhow::Context as _;

use crate::{
    packages, root, toolchain,
    workspace::{Workspace, find_program, say},
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Parts to measure (`cargo xtask bench help` lists them); all if none is given
    parts: Vec<OsString>,
}

/// The other programs, and their Debian packages.
const PROGRAMS: [(&str, &str); 4] = [
    ("tcpstates", "libbpf-tools"),
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("nsenter", "util-linux"),
];

pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let missing = PROGRAMS.iter().filter(|(program, _)| find_program(program).is_none());
    let packages: Vec<_> = missing.map(|&(_, package)| package).collect();
    packages::install(&workspace.sh, &packages, "measurements")?;

    let target = format!("{}-unknown-linux-musl", env::consts::ARCH);
    toolchain::provide_target(workspace, &target)?;
    say("building the measured program: the release, statically linked");
    let build = ["build", "--release", "--package", "synfin", "--target", &target];
    workspace.cargo().args(build).run()?;
    let folder = workspace.root.join("target");
    let synfin = folder.join(&target).join("release/synfin");

    if options.parts.is_empty() {
        let stages = ["bench", "--package", "synfin", "--bench", "stages"];
        workspace.cargo().args(stages).run()?;
    }
    let bench = ["bench", "--package", "synfin", "--bench", "performance"];
    let bench = workspace.cargo().args(bench).args(root::cargo_options("the benchmark")?);
    bench
        .args(["--", "measure", "--synfin"])
        .arg(synfin)
        .arg("--results")
        .arg(folder.join("performance.json"))
        .arg("--page")
        .arg(workspace.root.join("docs/performance.md"))
        .args(&options.parts)
        .run()
        .context("some measurements failed")
}
