//! Debian's kernels: which there are, and how to get one, with its modules.

use std::{
    borrow::Cow,
    cmp::Ordering,
    fmt, fs, iter,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use anyhow::Context as _;

use super::{
    apt::{Apt, remove_folder},
    arch::Arch,
    children,
    initramfs::Initramfs,
};
use crate::workspace::{find_program, say};

/// The flavour for virtual machines: the smallest, and all of ours need no driver.
const FLAVOUR: &str = "-cloud-";

/// Modules that a machine without hardware can use, by their folders: networking above all, and
/// what that builds on.
const MODULES: [&str; 4] = ["net", "lib", "crypto", "drivers"];
const DRIVERS: [&str; 3] = ["net", "virtio", "char"];

/// A kernel as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) arch: Arch,
    release: Release,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Release {
    Newest,
    /// `6.12`, or all of a name like `6.12.9+deb13-cloud-amd64`.
    Named(String),
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (release, arch) = match text.split_once(':') {
            Some((release, arch)) => (release, arch.parse()?),
            None => {
                let named = Arch::ALL.into_iter().find(|arch| text.ends_with(arch.name()));
                (text, named.unwrap_or(Arch::Amd64))
            }
        };
        let release = match release {
            "newest" => Release::Newest,
            _ if release.starts_with(|c: char| c.is_ascii_digit()) => {
                Release::Named(release.into())
            }
            _ => {
                return Err("a kernel is named like 6.12, newest, 6.12:arm64 or \
                            6.12.9+deb13-cloud-amd64"
                    .into());
            }
        };
        Ok(Self { arch, release })
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.release {
            Release::Named(name) if name.ends_with(self.arch.name()) => f.write_str(name),
            Release::Named(name) => write!(f, "{name}:{}", self.arch),
            Release::Newest => write!(f, "newest:{}", self.arch),
        }
    }
}

impl Wanted {
    fn matches(&self, name: &str) -> bool {
        match &self.release {
            Release::Newest => true,
            Release::Named(wanted) => {
                let rest = name.strip_prefix(wanted.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }
        }
    }
}

/// A kernel that can be booted.
pub(super) struct Kernel {
    pub(super) arch: Arch,
    /// As `uname -r` says it.
    pub(super) name: String,
    folder: PathBuf,
}

impl Kernel {
    /// The boot image.
    pub(super) fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// An archive of its modules.
    pub(super) fn modules(&self) -> PathBuf {
        self.folder.join("modules.cpio")
    }
}

/// The kernels of one architecture that are here, and those that can be had.
pub(super) struct Shelf<'a> {
    arch: Arch,
    folder: PathBuf,
    apt: &'a Apt,
    /// `None` until something is wanted.
    to_be_had: Option<Vec<Package>>,
}

impl<'a> Shelf<'a> {
    pub(super) fn open(arch: Arch, apt: &'a Apt, folder: &Path) -> anyhow::Result<Self> {
        let kernels = folder.join("kernels");
        fs::create_dir_all(&kernels)?;
        Ok(Self { arch, folder: kernels, apt, to_be_had: None })
    }

    /// The newest kernel that fits, downloaded if need be. If nothing can be downloaded now, one
    /// that fits and is here already.
    pub(super) fn provide(&mut self, wanted: &Wanted) -> anyhow::Result<Kernel> {
        let packages = match self.to_be_had.take() {
            Some(packages) => packages,
            None => self.look().unwrap_or_else(|error| {
                say(format!("cannot look for kernels to download: {error:#}"));
                Vec::new()
            }),
        };
        let packages = self.to_be_had.insert(packages);
        let fitting = packages.iter().filter(|package| wanted.matches(&package.kernel));
        let Some(package) = fitting.max_by(|a, b| by_version(&a.kernel, &b.kernel)) else {
            return self.here_already(wanted);
        };
        let folder = self.folder.join(&package.kernel);
        let made_of = fs::read_to_string(folder.join(MADE_OF)).unwrap_or_default();
        if made_of != package.recipe() {
            remove_folder(&folder)?;
            download(self.apt, package, &folder)
                .with_context(|| format!("cannot get {}", package.names.join(" and ")))?;
        }
        Ok(Kernel { arch: self.arch, name: package.kernel.clone(), folder })
    }

    fn look(&self) -> anyhow::Result<Vec<Package>> {
        let mut names = Vec::new();
        for prefix in ["linux-image-", "linux-binary-", "linux-modules-", "linux-base-"] {
            names.extend(self.apt.names(prefix)?);
        }
        Ok(packages(&names, self.arch))
    }

    fn here_already(&self, wanted: &Wanted) -> anyhow::Result<Kernel> {
        let folders = fs::read_dir(&self.folder)?.filter_map(|folder| Some(folder.ok()?.path()));
        let kernels = folders.filter_map(|folder| {
            let name = folder.file_name()?.to_str()?.to_owned();
            let is_it = wanted.matches(&name) && !name.ends_with(PARTIAL);
            is_it.then_some(Kernel { arch: self.arch, name, folder })
        });
        let newest = kernels.max_by(|a, b| by_version(&a.name, &b.name));
        newest.context("there is none here, and none with its modules in Debian's package lists")
    }
}

/// The packages of a kernel.
#[derive(Debug, PartialEq, Eq)]
struct Package {
    kernel: String,
    names: Vec<String>,
}

impl Package {
    /// Of the name of a package that holds a boot image.
    fn parse(name: &str, arch: Arch) -> Option<Self> {
        // Since 6.19 the modules are in a package apart from the image, and what is known about
        // them in a third.
        let (kernel, more) = match name.strip_prefix("linux-binary-") {
            Some(kernel) => (kernel, &["linux-modules-", "linux-base-"][..]),
            None => (name.strip_prefix("linux-image-")?, &[][..]),
        };
        let version = kernel.strip_suffix(arch.name())?.strip_suffix(FLAVOUR)?;
        // Neither `6.12-cloud-amd64`, which only depends on the newest, nor a real-time kernel.
        let is_version = version.starts_with(|c: char| c.is_ascii_digit())
            && version.matches('.').count() >= 2
            && !version.contains("rt");
        let more = more.iter().map(|prefix| format!("{prefix}{kernel}"));
        is_version.then(|| Self {
            kernel: kernel.into(),
            names: iter::once(name.to_owned()).chain(more).collect(),
        })
    }

    /// What the folder of this kernel is made of: if that changes, it is made anew.
    fn recipe(&self) -> String {
        format!("{:?} {MODULES:?} {DRIVERS:?}", self.names)
    }
}

/// Of these names, every kernel that can be had with its modules; of those that were superseded,
/// there is often only the image left.
fn packages(names: &[String], arch: Arch) -> Vec<Package> {
    let is_there = |name: &String| names.contains(name);
    // Of a kernel in several packages, there is one by the old name that depends on them.
    let is_split = |package: &Package| is_there(&format!("linux-binary-{}", package.kernel));
    let packages = names.iter().filter_map(|name| Package::parse(name, arch));
    packages
        .filter(|package| package.names.iter().all(is_there))
        .filter(|package| package.names.len() > 1 || !is_split(package))
        .collect()
}

/// Compares by the numbers in the names: 5.10.0-9 is older than 5.10.0-10.
fn by_version(a: &str, b: &str) -> Ordering {
    let numbers = |name: &str| -> Vec<u64> {
        let digits = name.split(|c: char| !c.is_ascii_digit());
        digits.filter_map(|digits| digits.parse().ok()).collect()
    };
    numbers(a).cmp(&numbers(b))
}

/// The end of the name of a folder that is being filled.
const PARTIAL: &str = ".partial";

/// A file in the folder of a kernel that says what it is made of.
const MADE_OF: &str = "made-of";

/// Puts a kernel at `to`, which is there whole or not at all.
fn download(apt: &Apt, package: &Package, to: &Path) -> anyhow::Result<()> {
    say(format!("downloading Debian's {}", package.names.join(" and ")));
    let folder = to.with_added_extension(&PARTIAL[1..]);
    remove_folder(&folder)?;
    fs::create_dir_all(&folder)?;
    let unpacked = folder.join("unpacked");
    let names: Vec<_> = package.names.iter().map(String::as_str).collect();
    apt.unpack(&names, &unpacked)?;
    let image = find(&unpacked, &|path| path.is_file() && name_of(path).starts_with("vmlinuz"))?;
    fs::rename(image.context("the package holds no boot image")?, folder.join("vmlinuz"))?;
    let is_it = Path::new("modules").join(&package.kernel);
    let modules = find(&unpacked, &|path| path.ends_with(&is_it))?;
    archive_modules(&package.kernel, &modules.context("the package holds no modules")?, &folder)?;
    remove_folder(&unpacked)?;
    fs::write(folder.join(MADE_OF), package.recipe())?;
    Ok(fs::rename(folder, to)?)
}

/// Makes the archive of the modules that are of use, and of what `modprobe` has to know of them.
fn archive_modules(kernel: &str, modules: &Path, folder: &Path) -> anyhow::Result<()> {
    let drivers = modules.join("kernel/drivers");
    keep_only(&modules.join("kernel"), |path| MODULES.contains(&&*name_of(path)))?;
    keep_only(&drivers, |path| DRIVERS.contains(&&*name_of(path)))?;
    // Folders there are of hardware.
    keep_only(&drivers.join("net"), Path::is_file)?;
    // Where they are to be, as that is where both this machine's tools and the guest's look.
    let root = folder.join("root");
    fs::create_dir_all(root.join("usr/lib/modules"))?;
    symlink("usr/lib", root.join("lib"))?;
    fs::rename(modules, root.join("usr/lib/modules").join(kernel))?;
    let depmod = find_program("depmod").context("there is no depmod here, of the package kmod")?;
    children::run(Command::new(depmod).arg("-b").arg(&root).arg(kernel))?;
    let mut archive = Initramfs::default();
    archive.tree("", &root, &|path| path != Path::new("lib"))?;
    archive.write(&folder.join("modules.cpio"))?;
    remove_folder(&root)
}

/// Removes all else from a folder.
fn keep_only(folder: &Path, wanted: impl Fn(&Path) -> bool) -> anyhow::Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if !wanted(&path) {
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
    }
    Ok(())
}

fn name_of(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// The first path below `folder` that `fits`.
fn find(folder: &Path, fits: &impl Fn(&Path) -> bool) -> anyhow::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if fits(&path) {
            return Ok(Some(path));
        }
        if entry.file_type()?.is_dir()
            && let Some(found) = find(&path, fits)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_with_a_boot_image_are_told_from_others() {
        let package = |name| {
            let Package { kernel, names } = Package::parse(name, Arch::Amd64)?;
            Some(format!("{kernel}: {}", names.join(" ")))
        };
        let name = "linux-image-5.10.0-46-cloud-amd64";
        assert_eq!(package(name), Some(format!("5.10.0-46-cloud-amd64: {name}")));
        let name = "linux-binary-7.3.4+deb14-cloud-amd64";
        let more = "linux-modules-7.3.4+deb14-cloud-amd64 linux-base-7.3.4+deb14-cloud-amd64";
        assert_eq!(package(name), Some(format!("7.3.4+deb14-cloud-amd64: {name} {more}")));
        for other in [
            "linux-image-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-5.10.0-46-cloud-amd64-dbg",
            "linux-image-5.10.0-46-cloud-amd64-unsigned",
            "linux-image-5.10.0-46-amd64",
            "linux-image-5.10.0-46-cloud-arm64",
            "linux-image-6.1.0-9-rt-cloud-amd64",
            "linux-headers-5.10.0-46-cloud-amd64",
        ] {
            assert_eq!(package(other), None, "{other}");
        }
    }

    #[test]
    fn only_kernels_with_modules_can_be_had() {
        let all = [
            "linux-image-6.18.15+deb13-cloud-amd64",
            "linux-image-7.1.8+deb13-cloud-amd64",
            "linux-binary-7.1.8+deb13-cloud-amd64",
            "linux-image-7.3.4+deb13-cloud-amd64",
            "linux-binary-7.3.4+deb13-cloud-amd64",
            "linux-modules-7.3.4+deb13-cloud-amd64",
            "linux-base-7.3.4+deb13-cloud-amd64",
        ];
        let packages = packages(&all.map(str::to_owned), Arch::Amd64);
        let names: Vec<_> = packages.iter().map(|package| package.names.join(" ")).collect();
        assert_eq!(names, [all[0].to_owned(), all[4..].join(" ")]);
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
        let newest: Wanted = "newest".parse().unwrap();
        assert!(newest.matches("6.1.0-9-cloud-amd64"));
        assert!("six".parse::<Wanted>().is_err());
    }

    #[test]
    fn a_kernel_of_another_architecture_is_named_as_a_package_is() {
        for (text, arch) in [
            ("6.12:arm64", Arch::Arm64),
            ("newest:amd64", Arch::Amd64),
            ("6.12.9+deb13-cloud-arm64", Arch::Arm64),
        ] {
            let wanted: Wanted = text.parse().unwrap();
            assert_eq!((wanted.arch, wanted.to_string().as_str()), (arch, text));
        }
        assert!("6.12:sparc".parse::<Wanted>().is_err());
    }
}
