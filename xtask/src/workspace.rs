//! The repository as the commands see it: its root, and the cargo that its host crates build with.

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
    /// Opens the repository that holds this xtask, from whatever folder it was called in.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let root = root();
        let sh = Shell::new()?;
        sh.change_dir(&root);
        Ok(Self { sh, root })
    }

    /// The cargo that started xtask: stable, unless the user asked for another.
    pub(crate) fn cargo(&self) -> Cmd<'_> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        self.sh.cmd(cargo).quiet()
    }
}

/// The folder of the root `Cargo.toml`, where it is now and not where xtask was compiled.
pub(crate) fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map(Path::to_path_buf).unwrap_or(package)
}

/// Says on stderr what xtask is about to do, or could not do: stdout belongs to the commands.
pub(crate) fn say(message: impl AsRef<str>) {
    eprintln!("xtask: {}", message.as_ref());
}

/// Where a program is, if this machine has it. Unprivileged users often lack the sbin folders.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}
