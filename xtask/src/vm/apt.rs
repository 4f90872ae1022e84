//! Debian's packages, of this architecture or another. Apt does the work, with lists and a state
//! of its own, so that this machine's lists, sources and packages stay as they are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail};

use super::{arch::Arch, children, tools::KEYRING};
use crate::workspace::say;

/// Releases of Debian that still get kernels, and the suites that hold their updates: older
/// kernels are in the older ones.
const SUITES: [&str; 6] =
    ["bullseye", "bookworm", "bookworm-backports", "trixie", "trixie-backports", "sid"];
const SECURITY_SUITES: [&str; 3] = ["bullseye-security", "bookworm-security", "trixie-security"];

/// What all but kernels is taken from.
const RELEASE: &str = "trixie";

/// Where Debian is to be had if this machine's own sources do not say.
const MIRROR: &str = "http://deb.debian.org";

/// Package lists older than this are fetched anew.
const LISTS_KEEP: Duration = Duration::from_hours(24);

/// Apt, with a folder of its own.
pub(super) struct Apt {
    arch: Arch,
    folder: PathBuf,
}

impl Apt {
    /// With lists that are not older than a day, if they can be had.
    pub(super) fn open(arch: Arch, folder: PathBuf) -> anyhow::Result<Self> {
        let apt = Self { arch, folder };
        apt.update()?;
        Ok(apt)
    }

    /// The names of all packages that begin like this.
    pub(super) fn names(&self, prefix: &str) -> anyhow::Result<Vec<String>> {
        let names = children::read(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Unpacks packages, without those that they depend on, into a folder that is not there yet.
    pub(super) fn unpack(&self, packages: &[&str], to: &Path) -> anyhow::Result<()> {
        let archives = self.fresh_folder("archives")?;
        let mut download = self.command("apt-get");
        children::run(download.arg("download").args(packages).current_dir(&archives))?;
        unpack_all(&archives, to)
    }

    /// The same with all that they depend on, of one release.
    pub(super) fn unpack_with_dependencies(
        &self,
        packages: &[&str],
        to: &Path,
    ) -> anyhow::Result<()> {
        let archives = self.fresh_folder("archives")?;
        fs::create_dir_all(archives.join("partial"))?;
        let mut download = self.command("apt-get");
        download.args(["install", "--download-only", "--yes", "--no-install-recommends"]);
        download.args(["--target-release", RELEASE]);
        download.args(["-o", &format!("Dir::Cache::Archives={}", archives.display())]);
        children::run(download.args(packages))?;
        unpack_all(&archives, to)
    }

    fn fresh_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(name);
        remove_folder(&folder)?;
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn command(&self, program: &str) -> Command {
        let folder = self.folder.display();
        let mut command = Command::new(program);
        command.arg("-qq");
        for option in [
            format!("APT::Architecture={}", self.arch),
            format!("APT::Architectures={}", self.arch),
            format!("Dir::Etc::SourceList={folder}/sources.list"),
            "Dir::Etc::SourceParts=-".into(),
            format!("Dir::State::Lists={folder}/lists"),
            // Nothing is installed.
            format!("Dir::State::Status={folder}/status"),
            format!("Dir::Cache={folder}/cache"),
            "Acquire::Languages=none".into(),
            // The unprivileged user that apt would become need not be able to enter our folder.
            "APT::Sandbox::User=root".into(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }

    fn update(&self) -> anyhow::Result<()> {
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(self.folder.join(folder))?;
        }
        fs::write(self.folder.join("status"), "")?;
        let (sources, stamp) = (self.folder.join("sources.list"), self.folder.join("updated"));
        let wanted = source_list(&configured_sites(), self.arch);
        let are_fresh = fs::metadata(&stamp)
            .and_then(|stamp| stamp.modified())
            .is_ok_and(|time| time.elapsed().is_ok_and(|age| age < LISTS_KEEP));
        if are_fresh && fs::read_to_string(&sources).is_ok_and(|present| present == wanted) {
            return Ok(());
        }
        say(format!("fetching the lists of Debian's packages for {}", self.arch));
        fs::write(&sources, wanted)?;
        // A suite that the mirror has given up must not keep the others' packages from us.
        match children::run(self.command("apt-get").args(["update", "--error-on=any"])) {
            Ok(()) => fs::write(&stamp, "")?,
            Err(error) => say(format!("not all lists could be fetched: {error:#}")),
        }
        Ok(())
    }
}

/// Puts there what is in every package of a folder.
fn unpack_all(archives: &Path, to: &Path) -> anyhow::Result<()> {
    let mut found = false;
    for entry in fs::read_dir(archives)? {
        let archive = entry?.path();
        if archive.extension().is_some_and(|extension| extension == "deb") {
            children::run(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(to))?;
            found = true;
        }
    }
    if !found {
        bail!("apt-get left no package in {}", archives.display());
    }
    remove_folder(archives)
}

pub(super) fn remove_folder(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// Where this machine's apt fetches from.
fn configured_sites() -> Vec<String> {
    let sites =
        children::read(Command::new("apt-get").args(["indextargets", "--format", "$(SITE)"]));
    sites.unwrap_or_default().lines().map(|site| site.trim_end_matches('/').to_owned()).collect()
}

/// Debian's archives by this machine's mirrors, which may be all that it can reach.
fn source_list(sites: &[String], arch: Arch) -> String {
    let archive = |name: &str| {
        let configured = sites.iter().find(|site| site.ends_with(name));
        configured.cloned().unwrap_or_else(|| format!("{MIRROR}{name}"))
    };
    let (main, security) = (archive("/debian"), archive("/debian-security"));
    let suites = SUITES.iter().map(|suite| (&main, suite));
    let suites = suites.chain(SECURITY_SUITES.iter().map(|suite| (&security, suite)));
    suites
        .map(|(site, suite)| format!("deb [arch={arch} signed-by={KEYRING}] {site} {suite} main\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_mirror_is_used() {
        let list = source_list(&["http://mirror.example/debian".into()], Arch::Arm64);
        assert!(list.contains("[arch=arm64 "));
        assert!(list.contains("] http://mirror.example/debian bullseye main\n"));
        assert!(list.contains("] http://deb.debian.org/debian-security bullseye-security main\n"));
    }
}
