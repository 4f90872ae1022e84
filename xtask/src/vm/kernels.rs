//! Debian's kernels: which there are, and how to get one. Apt does the work, with lists of its own
//! in `target/vm/apt`, so that this machine's lists and sources stay as they are.

use std::{
    cmp::Ordering,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, bail};

use super::{children, tools::KEYRING};
use crate::workspace::say;

/// Releases of Debian that still get kernels, and the suites that hold their updates: older
/// kernels are in the older ones.
const SUITES: [&str; 6] =
    ["bullseye", "bookworm", "bookworm-backports", "trixie", "trixie-backports", "sid"];
const SECURITY_SUITES: [&str; 3] = ["bullseye-security", "bookworm-security", "trixie-security"];

/// Where Debian is to be had if this machine's own sources do not say.
const MIRROR: &str = "http://deb.debian.org";

/// The flavour for virtual machines: the smallest, and all of ours need no driver.
const FLAVOUR: &str = "-cloud-amd64";

/// Package lists older than this are fetched anew.
const LISTS_KEEP: Duration = Duration::from_hours(24);

/// A kernel as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Newest,
    /// `6.12`, or all of a name like `6.12.9+deb13-cloud-amd64`.
    Named(String),
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "newest" => Ok(Self::Newest),
            _ if text.starts_with(|c: char| c.is_ascii_digit()) => Ok(Self::Named(text.into())),
            _ => Err("a kernel is named like 6.12, 6.12.9+deb13-cloud-amd64 or newest".into()),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("newest"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl Wanted {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Newest => true,
            Self::Named(wanted) => {
                let rest = name.strip_prefix(wanted.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }
        }
    }
}

/// A kernel that can be booted.
pub(super) struct Kernel {
    /// As `uname -r` says it.
    pub(super) name: String,
    /// The boot image.
    pub(super) path: PathBuf,
}

/// The kernels that are here, and those that can be had.
pub(super) struct Shelf {
    folder: PathBuf,
    apt: Apt,
    /// `None` until something is wanted.
    to_be_had: Option<Vec<Package>>,
}

impl Shelf {
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let kernels = folder.join("kernels");
        fs::create_dir_all(&kernels)?;
        Ok(Self { folder: kernels, apt: Apt(folder.join("apt")), to_be_had: None })
    }

    /// The newest kernel that fits, downloaded if need be. If nothing can be downloaded now, one
    /// that fits and is here already.
    pub(super) fn provide(&mut self, wanted: &Wanted) -> anyhow::Result<Kernel> {
        let packages = match self.to_be_had.take() {
            Some(packages) => packages,
            None => self.apt.kernels().unwrap_or_else(|error| {
                say(format!("cannot look for kernels to download: {error:#}"));
                Vec::new()
            }),
        };
        let packages = self.to_be_had.insert(packages);
        let fitting = packages.iter().filter(|package| wanted.matches(&package.kernel));
        let Some(package) = fitting.max_by(|a, b| by_version(&a.kernel, &b.kernel)) else {
            return self.here_already(wanted);
        };
        let path = self.folder.join(&package.kernel);
        if !path.is_file() {
            download(&self.apt, package, &path)
                .with_context(|| format!("cannot get {}", package.name))?;
        }
        Ok(Kernel { name: package.kernel.clone(), path })
    }

    fn here_already(&self, wanted: &Wanted) -> anyhow::Result<Kernel> {
        let files = fs::read_dir(&self.folder)?.filter_map(|file| Some(file.ok()?.path()));
        let kernels = files.filter_map(|path| {
            let name = path.file_name()?.to_str()?.to_owned();
            (path.is_file() && wanted.matches(&name)).then_some(Kernel { name, path })
        });
        let newest = kernels.max_by(|a, b| by_version(&a.name, &b.name));
        newest.with_context(|| {
            format!("there is none here, and none in the package lists of {}", SUITES.join(", "))
        })
    }
}

/// A package that holds a boot image.
#[derive(Debug, PartialEq, Eq)]
struct Package {
    name: String,
    kernel: String,
}

impl Package {
    fn parse(name: &str) -> Option<Self> {
        // Since 6.19 the image is in a package apart from the modules, which are not needed.
        let kernel =
            name.strip_prefix("linux-binary-").or_else(|| name.strip_prefix("linux-image-"))?;
        let version = kernel.strip_suffix(FLAVOUR)?;
        // Neither `cloud-amd64`, which only depends on the newest, nor a real-time kernel.
        let is_version = version.starts_with(|c: char| c.is_ascii_digit())
            && version.matches('.').count() >= 2
            && !version.contains("rt");
        is_version.then(|| Self { name: name.into(), kernel: kernel.into() })
    }
}

/// Compares by the numbers in the names: 5.10.0-9 is older than 5.10.0-10.
fn by_version(a: &str, b: &str) -> Ordering {
    let numbers = |name: &str| -> Vec<u64> {
        let digits = name.split(|c: char| !c.is_ascii_digit());
        digits.filter_map(|digits| digits.parse().ok()).collect()
    };
    numbers(a).cmp(&numbers(b))
}

/// Puts the boot image of `package` at `to`, which is there whole or not at all.
fn download(apt: &Apt, package: &Package, to: &Path) -> anyhow::Result<()> {
    say(format!("downloading Debian's {}", package.name));
    let folder = to.with_added_extension("partial");
    remove_folder(&folder)?;
    fs::create_dir_all(&folder)?;
    children::run(apt.command("apt-get").args(["download", &package.name]).current_dir(&folder))?;
    let archive = find(&folder, &|name| name.ends_with(".deb"))?.context("apt-get left no file")?;
    let unpacked = folder.join("unpacked");
    children::run(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&unpacked))?;
    let image = find(&unpacked, &|name| name.starts_with("vmlinuz"))?;
    fs::rename(image.context("the package holds no boot image")?, to)?;
    remove_folder(&folder)
}

fn remove_folder(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// The first file below `folder` whose name `fits`.
fn find(folder: &Path, fits: &impl Fn(&str) -> bool) -> anyhow::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let found = if kind.is_dir() {
            find(&entry.path(), fits)?
        } else {
            let is_it = kind.is_file() && entry.file_name().to_str().is_some_and(fits);
            is_it.then(|| entry.path())
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Apt, with a folder of its own.
struct Apt(PathBuf);

impl Apt {
    fn command(&self, program: &str) -> Command {
        let folder = self.0.display();
        let mut command = Command::new(program);
        command.arg("-qq");
        for option in [
            format!("Dir::Etc::SourceList={folder}/sources.list"),
            "Dir::Etc::SourceParts=-".into(),
            format!("Dir::State::Lists={folder}/lists"),
            format!("Dir::Cache={folder}/cache"),
            "Acquire::Languages=none".into(),
            // The unprivileged user that apt would become need not be able to enter our folder.
            "APT::Sandbox::User=root".into(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }

    /// Every kernel that the lists name.
    fn kernels(&self) -> anyhow::Result<Vec<Package>> {
        self.update()?;
        let mut kernels = Vec::new();
        for prefix in ["linux-image-", "linux-binary-"] {
            let names = children::read(self.command("apt-cache").args(["pkgnames", prefix]))?;
            kernels.extend(names.lines().filter_map(Package::parse));
        }
        if kernels.is_empty() {
            bail!("the package lists name no kernel");
        }
        Ok(kernels)
    }

    fn update(&self) -> anyhow::Result<()> {
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(self.0.join(folder))?;
        }
        let (sources, stamp) = (self.0.join("sources.list"), self.0.join("updated"));
        let wanted = source_list(&configured_sites());
        let are_fresh = fs::metadata(&stamp)
            .and_then(|stamp| stamp.modified())
            .is_ok_and(|time| time.elapsed().is_ok_and(|age| age < LISTS_KEEP));
        if are_fresh && fs::read_to_string(&sources).is_ok_and(|present| present == wanted) {
            return Ok(());
        }
        say("fetching the lists of Debian's kernels");
        fs::write(&sources, wanted)?;
        // A suite that the mirror has given up must not keep the others' kernels from us.
        match children::run(self.command("apt-get").args(["update", "--error-on=any"])) {
            Ok(()) => fs::write(&stamp, "")?,
            Err(error) => say(format!("not all lists could be fetched: {error:#}")),
        }
        Ok(())
    }
}

/// Where this machine's apt fetches from.
fn configured_sites() -> Vec<String> {
    let sites =
        children::read(Command::new("apt-get").args(["indextargets", "--format", "$(SITE)"]));
    sites.unwrap_or_default().lines().map(|site| site.trim_end_matches('/').to_owned()).collect()
}

/// Debian's archives by this machine's mirrors, which may be all that it can reach.
fn source_list(sites: &[String]) -> String {
    let archive = |name: &str| {
        let configured = sites.iter().find(|site| site.ends_with(name));
        configured.cloned().unwrap_or_else(|| format!("{MIRROR}{name}"))
    };
    let (main, security) = (archive("/debian"), archive("/debian-security"));
    let suites = SUITES.iter().map(|suite| (&main, suite));
    let suites = suites.chain(SECURITY_SUITES.iter().map(|suite| (&security, suite)));
    suites
        .map(|(site, suite)| format!("deb [arch=amd64 signed-by={KEYRING}] {site} {suite} main\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_with_a_boot_image_are_told_from_others() {
        let kernel = |name| Package::parse(name).map(|package| package.kernel);
        let name = "linux-image-5.10.0-46-cloud-amd64";
        assert_eq!(kernel(name).as_deref(), Some("5.10.0-46-cloud-amd64"));
        let name = "linux-binary-7.3.4+deb14-cloud-amd64";
        assert_eq!(kernel(name).as_deref(), Some("7.3.4+deb14-cloud-amd64"));
        for other in [
            "linux-image-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-5.10.0-46-cloud-amd64-dbg",
            "linux-image-5.10.0-46-cloud-amd64-unsigned",
            "linux-image-5.10.0-46-amd64",
            "linux-image-6.1.0-9-rt-cloud-amd64",
            "linux-headers-5.10.0-46-cloud-amd64",
        ] {
            assert_eq!(kernel(other), None, "{other}");
        }
    }

    #[test]
    fn the_newest_kernel_has_the_largest_numbers() {
        let mut names = [
            "6.1.0-9-cloud-amd64",
            "6.12.9+deb13-cloud-amd64",
            "6.1.0-0.deb11.52-cloud-amd64",
            "6.1.0-10-cloud-amd64",
        ];
        names.sort_by(|a, b| by_version(a, b));
        assert_eq!(
            names,
            [
                "6.1.0-0.deb11.52-cloud-amd64",
                "6.1.0-9-cloud-amd64",
                "6.1.0-10-cloud-amd64",
                "6.12.9+deb13-cloud-amd64"
            ]
        );
    }

    #[test]
    fn a_series_is_not_another_one_that_begins_like_it() {
        let series: Wanted = "6.1".parse().unwrap();
        assert!(series.matches("6.1.0-9-cloud-amd64"));
        assert!(!series.matches("6.12.9+deb13-cloud-amd64"));
        let name: Wanted = "6.1.0-9-cloud-amd64".parse().unwrap();
        assert!(name.matches("6.1.0-9-cloud-amd64"));
        assert!(Wanted::Newest.matches("6.1.0-9-cloud-amd64"));
        assert!("six".parse::<Wanted>().is_err());
    }

    #[test]
    fn the_machines_own_mirror_is_used() {
        let list = source_list(&["http://mirror.example/debian".into()]);
        assert!(list.contains("] http://mirror.example/debian bullseye main\n"));
        assert!(list.contains("] http://deb.debian.org/debian-security bullseye-security main\n"));
    }
}
