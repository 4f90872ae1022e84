//! The root of the repository, and the cargo that builds its crates.

use std::{
    env,
    path::{Path, PathBuf},
};

use xshell::{Cmd, Shell};

pub(crate) struct Workspace {
    pub(crate) sh: Shell,
    pub(crate) root: PathBuf,
}

impl Workspace {
    /// Opens the repository of this xtask, independent of the current directory.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let root = root();
        let sh = Shell::new()?;
        sh.change_dir(&root);
        Ok(Self { sh, root })
    }

    /// The cargo that started xtask: stable, unless the user chose another.
    pub(crate) fn cargo(&self) -> Cmd<'_> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        self.sh.cmd(cargo).quiet()
    }
}

/// The directory of the root `Cargo.toml` at run time, not at the compilation of xtask.
pub(crate) fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map(Path::to_path_buf).unwrap_or(package)
}

/// Prints a message to stderr: stdout belongs to the commands.
pub(crate) fn say(message: impl AsRef<str>) {
    eprintln!("xtask: {}", message.as_ref());
}

/// The path of an installed program. The PATH of unprivileged users often lacks sbin directories.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}
