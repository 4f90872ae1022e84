//! Lists Debian's kernels, and downloads a kernel with its modules.

use std::{
    fmt, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::Context as _;
use xshell::{Shell, cmd};

use super::{
    apt::Apt,
    arch::Arch,
    archive::{self, empty_folder},
};
use crate::workspace::{find_program, say};

/// The kernels for virtual machines, which are the smallest; they need no hardware drivers.
const FLAVOUR: &str = "-cloud-";

/// A kernel as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) arch: Arch,
    /// `6.12`, a full name like `6.12.9+deb13-cloud-amd64`, or `newest`.
    release: String,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (release, arch) = text.split_once(':').unwrap_or((text, "amd64"));
        if release != "newest" && !release.starts_with(|first: char| first.is_ascii_digit()) {
            return Err("write 6.12, newest, 6.12:arm64 or 6.12.9+deb13-cloud-amd64".into());
        }
        Ok(Self { arch: arch.parse()?, release: release.into() })
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.release, self.arch)
    }
}

impl Wanted {
    fn matches(&self, name: &str) -> bool {
        let rest = name.strip_prefix(&*self.release);
        self.release == "newest"
            || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// A bootable kernel.
pub(super) struct Kernel {
    pub(super) arch: Arch,
    /// What `uname -r` prints.
    pub(super) name: String,
    pub(super) image: PathBuf,
    /// The archive of its modules.
    pub(super) modules: PathBuf,
}

/// Downloads the newest matching kernel among the packages `names`.
pub(super) fn provide(
    sh: &Shell,
    apt: &Apt<'_>,
    names: &[String],
    wanted: &Wanted,
    folder: &Path,
) -> anyhow::Result<Kernel> {
    let found = names.iter().filter_map(|name| kernel_in(name, wanted.arch));
    let found = found.filter(|kernel| wanted.matches(kernel));
    let found = found.filter_map(|kernel| Some((kernel, packages_of(kernel, names)?)));
    let (name, packages) = found
        .max_by_key(|(kernel, _)| version(kernel))
        .context("Debian's package lists have none with its modules")?;
    let folder = folder.join("kernels").join(name);
    let (image, modules) = (folder.join("vmlinuz"), folder.join("modules.cpio"));
    // The modules are archived last.
    if !modules.is_file() {
        download(sh, apt, name, &packages, &folder)
            .with_context(|| format!("cannot get {}", packages.join(" and ")))?;
    }
    Ok(Kernel { arch: wanted.arch, name: name.into(), image, modules })
}

/// The kernel in the name of a boot image's package: not `6.12-cloud-amd64`, which only depends
/// on the newest, and no real-time kernel.
fn kernel_in(package: &str, arch: Arch) -> Option<&str> {
    let kernel = package.strip_prefix("linux-image-")?;
    let version = kernel.strip_suffix(arch.name())?.strip_suffix(FLAVOUR)?;
    let is_version = version.starts_with(|first: char| first.is_ascii_digit())
        && version.matches('.').count() >= 2
        && !version.contains("rt");
    is_version.then_some(kernel)
}

/// The packages of a kernel, if all of them exist: of superseded kernels only the image may be
/// left. Since 6.19 image, modules and metadata are separate packages, and the
/// package of the old name depends on them.
fn packages_of(kernel: &str, names: &[String]) -> Option<Vec<String>> {
    let package = |kind: &str| format!("linux-{kind}-{kernel}");
    let is_split = names.contains(&package("binary"));
    let kinds = if is_split { &["binary", "modules", "base"][..] } else { &["image"] };
    let packages: Vec<_> = kinds.iter().map(|kind| package(kind)).collect();
    packages.iter().all(|package| names.contains(package)).then_some(packages)
}

/// The numbers in a name, to compare by: 5.10.0-9 is older than 5.10.0-10.
fn version(kernel: &str) -> Vec<u64> {
    let digits = kernel.split(|c: char| !c.is_ascii_digit());
    digits.filter_map(|digits| digits.parse().ok()).collect()
}

fn download(
    sh: &Shell,
    apt: &Apt<'_>,
    kernel: &str,
    packages: &[String],
    folder: &Path,
) -> anyhow::Result<()> {
    say(format!("downloading Debian's {}", packages.join(" and ")));
    let (unpacked, root) = (folder.join("unpacked"), folder.join("root"));
    empty_folder(folder)?;
    apt.unpack(packages, &unpacked)?;
    let find = |test: &str, value: &str| -> anyhow::Result<PathBuf> {
        let found = cmd!(sh, "find {unpacked} {test} {value} -print -quit").quiet().read()?;
        (!found.is_empty()).then(|| found.into()).with_context(|| format!("no {value} in them"))
    };
    fs::rename(find("-name", "vmlinuz*")?, folder.join("vmlinuz"))?;
    // The path at which both `depmod` here and `modprobe` in the machine look for them.
    fs::create_dir_all(root.join("usr/lib/modules"))?;
    symlink("usr/lib", root.join("lib"))?;
    let modules = find("-path", &format!("*/modules/{kernel}"))?;
    fs::rename(modules, root.join("usr/lib/modules").join(kernel))?;
    let depmod = find_program("depmod").context("depmod is missing, of the package kmod")?;
    cmd!(sh, "{depmod} -b {root} {kernel}").quiet().run()?;
    // The userland has the links and directories.
    fs::remove_file(root.join("lib"))?;
    archive::write(sh, &root, &folder.join("modules.cpio"))?;
    Ok([unpacked, root].iter().try_for_each(fs::remove_dir_all)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_with_a_boot_image_are_found_among_others() {
        let kernel = "5.10.0-46-cloud-amd64";
        assert_eq!(kernel_in("linux-image-5.10.0-46-cloud-amd64", Arch::Amd64), Some(kernel));
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
            assert_eq!(kernel_in(other, Arch::Amd64), None, "{other}");
        }
    }

    #[test]
    fn a_kernel_without_modules_is_skipped() {
        let names = [
            "linux-image-6.18.15+deb13-cloud-amd64",
            "linux-image-7.1.8+deb13-cloud-amd64",
            "linux-binary-7.1.8+deb13-cloud-amd64",
            "linux-image-7.3.4+deb13-cloud-amd64",
            "linux-binary-7.3.4+deb13-cloud-amd64",
            "linux-modules-7.3.4+deb13-cloud-amd64",
            "linux-base-7.3.4+deb13-cloud-amd64",
        ]
        .map(str::to_owned);
        let packages = |kernel: &str| packages_of(&format!("{kernel}+deb13-cloud-amd64"), &names);
        assert_eq!(packages("6.18.15"), Some(names[..1].to_vec()));
        assert_eq!(packages("7.1.8"), None);
        assert_eq!(packages("7.3.4"), Some(names[4..].to_vec()));
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let names =
            ["6.1.0-0.deb11.52-cloud-amd64", "6.1.0-9-cloud", "6.1.0-10-cloud", "6.12.9+deb13"];
        assert!(names.map(version).is_sorted());
    }

    #[test]
    fn a_series_does_not_match_another_with_its_prefix() {
        let series: Wanted = "6.1".parse().unwrap();
        assert!(series.matches("6.1.0-9-cloud-amd64"));
        assert!(!series.matches("6.12.9+deb13-cloud-amd64"));
        let newest: Wanted = "newest:arm64".parse().unwrap();
        assert!(newest.matches("6.1.0-9-cloud-arm64"));
        assert_eq!(newest.to_string(), "newest:arm64");
        assert!("six".parse::<Wanted>().is_err());
        assert!("6.12:sparc".parse::<Wanted>().is_err());
    }
}
