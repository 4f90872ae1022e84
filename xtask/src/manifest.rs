//! `tracer/ebpf/MANIFEST` has the hashes of the committed eBPF objects and of the sources that they
//! were built from, so that every test run detects an outdated object.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

/// The programs of `tracer-ebpf`; each has an object.
pub(crate) const PROGRAMS: [&str; 3] = ["synfin", "floor", "producer"];

/// The directory of the committed objects and their manifest.
pub(crate) const COMMITTED: &str = "tracer/ebpf";

const FILE: &str = "MANIFEST";

/// The sources of the objects. The lock file has the versions of their dependencies.
const INPUTS: [&str; 6] = [
    "tracer-common/Cargo.toml",
    "tracer-common/src",
    "tracer-ebpf/Cargo.lock",
    "tracer-ebpf/Cargo.toml",
    "tracer-ebpf/src",
    "xtask/src/pins.rs",
];

/// The name of the hash of all inputs.
const SOURCES: &str = "sources";

/// Hashes by name: one for each object, and one for all sources.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Manifest(BTreeMap<String, String>);

impl Manifest {
    /// Computes the manifest of the sources in `root` and of the objects in `objects`.
    pub(crate) fn compute(root: &Path, objects: &Path) -> anyhow::Result<Self> {
        let mut hashes = BTreeMap::from([(SOURCES.into(), hash_sources(root)?)]);
        for name in PROGRAMS.map(object_name) {
            let hash = hex(Sha256::digest(read(&objects.join(&name))?));
            hashes.insert(name, hash);
        }
        Ok(Self(hashes))
    }

    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let entry = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [hash, name] => Ok((name.to_owned(), hash.to_owned())),
            _ => bail!("not a line of `hash name`: {line:?}"),
        };
        Ok(Self(lines.map(entry).collect::<anyhow::Result<_>>()?))
    }

    fn differing_names<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let names: BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let differing = names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name));
        differing.map(String::as_str).collect()
    }

    pub(crate) fn write(&self, objects: &Path) -> anyhow::Result<()> {
        let path = objects.join(FILE);
        fs::write(&path, self.to_string())
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Written by `cargo xtask ebpf`, checked by every test run: do not edit.")?;
        self.0.iter().try_for_each(|(name, hash)| writeln!(f, "{hash}  {name}"))
    }
}

/// Fails unless the committed manifest matches the sources and objects.
pub(crate) fn verify(root: &Path) -> anyhow::Result<()> {
    let folder = root.join(COMMITTED);
    let path = folder.join(FILE);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}: run `cargo xtask ebpf`", path.display()))?;
    let written =
        Manifest::parse(&text).with_context(|| format!("cannot parse {}", path.display()))?;
    let actual = Manifest::compute(root, &folder)?;
    let stale = written.differing_names(&actual);
    if !stale.is_empty() {
        bail!(
            "{COMMITTED} is stale: {} changed since it was built. \
             Run `cargo xtask ebpf`, and commit {COMMITTED} with the change",
            stale.join(" and "),
        );
    }
    Ok(())
}

pub(crate) fn object_name(program: &str) -> String {
    format!("{program}.bpf.o")
}

/// A hash of the paths and contents of all inputs.
fn hash_sources(root: &Path) -> anyhow::Result<String> {
    let mut files = Vec::new();
    for input in INPUTS {
        collect_files(&root.join(input), &mut files)?;
    }
    files.sort();
    let mut hasher = Sha256::new();
    for file in files {
        let name = file.strip_prefix(root)?.to_str().context("a source's name is not UTF-8")?;
        let content = read(&file)?;
        // With lengths, bytes cannot move from one field to the next without changing the hash.
        for field in [name.as_bytes(), &content] {
            hasher.update((field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
    }
    Ok(hex(hasher.finalize()))
}

fn collect_files(path: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    // An editor's swap files are not sources.
    let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    if hidden {
        return Ok(());
    }
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
    for entry in entries {
        collect_files(&entry?.path(), files)?;
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(entries: &[(&str, &str)]) -> Manifest {
        let own = |&(name, hash): &(&str, &str)| (name.into(), hash.into());
        Manifest(entries.iter().map(own).collect())
    }

    #[test]
    fn committed_objects_are_built_from_the_sources_beside_them() {
        verify(&crate::workspace::root()).unwrap();
    }

    #[test]
    fn a_manifest_reads_back_what_it_wrote() {
        let written = manifest(&[("sources", "c0ffee"), ("synfin.bpf.o", "beef")]);
        assert_eq!(Manifest::parse(&written.to_string()).unwrap(), written);
    }

    #[test]
    fn an_error_shows_the_damaged_line() {
        let error = Manifest::parse("# comment\n\nhash  name  more\n").unwrap_err();
        assert!(error.to_string().contains("hash  name  more"), "{error}");
    }

    #[test]
    fn changed_added_and_removed_objects_are_named() {
        let old = manifest(&[("kept", "1"), ("changed", "2"), ("gone", "3")]);
        let new = manifest(&[("kept", "1"), ("changed", "4"), ("new", "5")]);
        assert_eq!(old.differing_names(&new), ["changed", "gone", "new"]);
    }
}
