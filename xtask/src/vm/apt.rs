//! Debian packages of any architecture, downloaded by apt with its own package lists and state:
//! the lists, sources and packages of this machine stay unchanged.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use xshell::{Cmd, Shell, cmd};

use super::{arch::Arch, archive::empty_folder};
use crate::workspace::say;

/// Debian's signing keys, which verify every download.
pub(super) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Releases of Debian that still get kernels: the older ones have older kernels.
const SUITES: [&str; 6] =
    ["bullseye", "bookworm", "bookworm-backports", "trixie", "trixie-backports", "sid"];
const SECURITY_SUITES: [&str; 3] = ["bullseye-security", "bookworm-security", "trixie-security"];

/// The release of all packages except kernels.
const RELEASE: &str = "trixie";

/// Debian's server, unless the sources of this machine name another.
const MIRROR: &str = "http://deb.debian.org";

/// Age at which package lists are updated.
const MAX_AGE: Duration = Duration::from_hours(24);

pub(super) struct Apt<'a> {
    sh: &'a Shell,
    arch: Arch,
    folder: PathBuf,
}

impl<'a> Apt<'a> {
    /// Opens apt in a directory of its own. Updates old lists, and uses them if the update fails.
    pub(super) fn open(sh: &'a Shell, arch: Arch, folder: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(folder.join("lists/partial"))?;
        fs::create_dir_all(folder.join("cache/archives/partial"))?;
        fs::write(folder.join("status"), "")?;
        let (list, updated) = (folder.join("sources.list"), folder.join("updated"));
        let sites = cmd!(sh, "apt-get indextargets --format").arg("$(SITE)").quiet().read();
        let sources = sources(&sites.unwrap_or_default(), arch);
        let apt = Self { sh, arch, folder };
        let is_fresh = fs::metadata(&updated)
            .and_then(|stamp| stamp.modified())
            .is_ok_and(|time| time.elapsed().is_ok_and(|age| age < MAX_AGE));
        if !is_fresh || fs::read_to_string(&list).unwrap_or_default() != sources {
            say(format!("updating the lists of Debian packages for {arch}"));
            fs::write(&list, sources)?;
            // A suite that has left the mirror does not block the packages of others.
            match apt.command("apt-get").args(["update", "--error-on=any"]).run() {
                Ok(()) => fs::write(&updated, "")?,
                Err(error) => say(format!("not all package lists could be updated: {error}")),
            }
        }
        Ok(apt)
    }

    /// The names of all packages.
    pub(super) fn names(&self) -> anyhow::Result<Vec<String>> {
        let names = self.command("apt-cache").arg("pkgnames").read()?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Unpacks packages into `to`, without their dependencies.
    pub(super) fn unpack(&self, packages: &[String], to: &Path) -> anyhow::Result<()> {
        let archives = self.folder.join("archives");
        empty_folder(&archives)?;
        let there = self.sh.push_dir(&archives);
        self.command("apt-get").arg("download").args(packages).run()?;
        drop(there);
        self.unpack_all(&archives, to)
    }

    /// Unpacks packages and all their dependencies into `to`.
    pub(super) fn unpack_with_dependencies(
        &self,
        packages: &[&str],
        to: &Path,
    ) -> anyhow::Result<()> {
        let archives = self.folder.join("archives");
        empty_folder(&archives.join("partial"))?;
        self.command("apt-get")
            .args(["install", "--download-only", "--yes", "--no-install-recommends"])
            .args(["--target-release", RELEASE])
            .args(["-o", &format!("Dir::Cache::Archives={}", archives.display())])
            .args(packages)
            .run()?;
        self.unpack_all(&archives, to)
    }

    fn unpack_all(&self, archives: &Path, to: &Path) -> anyhow::Result<()> {
        for path in self.sh.read_dir(archives)? {
            if path.extension().is_some_and(|extension| extension == "deb") {
                cmd!(self.sh, "dpkg-deb --extract {path} {to}").quiet().run()?;
            }
        }
        fs::remove_dir_all(archives).with_context(|| archives.display().to_string())
    }

    fn command(&self, program: &str) -> Cmd<'a> {
        let folder = self.folder.display();
        let options = [
            format!("APT::Architecture={}", self.arch),
            format!("APT::Architectures={}", self.arch),
            format!("Dir::Etc::SourceList={folder}/sources.list"),
            "Dir::Etc::SourceParts=-".into(),
            format!("Dir::State::Lists={folder}/lists"),
            // No package is installed.
            format!("Dir::State::Status={folder}/status"),
            format!("Dir::Cache={folder}/cache"),
            "Acquire::Languages=none".into(),
            // The unprivileged user that apt would become may not have access to our directory.
            "APT::Sandbox::User=root".into(),
        ];
        let options = options.iter().flat_map(|option| ["-o", option.as_str()]);
        self.sh.cmd(program).arg("-qq").args(options).quiet()
    }
}

/// Debian's archives on the mirrors of this machine, which may have access to no others.
fn sources(sites: &str, arch: Arch) -> String {
    let mirror = |name: &str| {
        let mut configured = sites.lines().map(|site| site.trim_end_matches('/'));
        let found = configured.find(|site| site.ends_with(name)).map(str::to_owned);
        found.unwrap_or_else(|| format!("{MIRROR}{name}"))
    };
    let (main, security) = (mirror("/debian"), mirror("/debian-security"));
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
    fn the_mirror_of_this_machine_is_used() {
        let sources = sources("http://mirror.example/debian/\n", Arch::Arm64);
        assert!(sources.contains("[arch=arm64 "));
        assert!(sources.contains("] http://mirror.example/debian bullseye main\n"));
        assert!(sources.contains("] http://deb.debian.org/debian-security bullseye-security main"));
    }
}
