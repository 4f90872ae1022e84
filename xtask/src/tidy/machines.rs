//! Nothing that is committed names a machine that it was made on: no home or work folder, and no
//! registry but the one that cargo takes unless told otherwise.

use super::{Source, Violation};

/// A folder that only one machine has; an absolute path to it begins a word.
const FOLDERS: [&str; 3] = ["/root/", "/work/", "/home/"];

/// What a lock file says of a package from where all packages are.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check(files: &[Source]) -> Vec<Violation> {
    let mut violations = Vec::new();
    // This file names what is forbidden.
    for file in files.iter().filter(|file| !file.path.ends_with("tidy/machines.rs")) {
        for (index, line) in file.text.lines().enumerate() {
            if let Some(folder) = FOLDERS.iter().find(|folder| has_folder(line, folder)) {
                let what = format!(
                    "{folder} is a folder of one machine: name it relatively, or by what it is for"
                );
                violations.push(Violation::new(file, index + 1, what));
            }
            if line.replace(REGISTRY, "").contains("registry+") || names_a_proxy(line) {
                violations.push(Violation::new(
                    file,
                    index + 1,
                    "a registry that others cannot reach: build once without the replacement of \
                     crates.io, so that the lock file names crates.io",
                ));
            }
        }
    }
    violations
}

/// `/home/` in `/home/me`, and not in `https://example.org/home/`.
fn has_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|before| !before.is_alphanumeric() && !"._-/}~*".contains(before))
    })
}

/// An index of packages elsewhere: a sparse one, or a setting that puts one in place of another.
fn names_a_proxy(line: &str) -> bool {
    let line = line.trim_start();
    line.contains("sparse+http") || line.starts_with("replace-with")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        check(&[Source::new("a", text.as_bytes())]).iter().map(|found| found.line).collect()
    }

    #[test]
    fn folders_of_one_machine_are_found() {
        assert_eq!(lines("see /home/me/x\n`/root/y`\npath=/work/z\n"), [1, 2, 3]);
        let elsewhere = "https://example.org/home/x\n{root}/work/z\n/var/work/\ntarget/home/\n";
        assert!(lines(elsewhere).is_empty());
    }

    #[test]
    fn only_crates_io_is_a_registry() {
        let good = format!("source = \"{REGISTRY}\"\n");
        assert!(lines(&good).is_empty());
        let bad = "source = \"registry+https://mirror.example/index\"\n\
                   index = \"sparse+https://mirror.example/\"\nreplace-with = \"mirror\"\n";
        assert_eq!(lines(bad), [1, 2, 3]);
    }
}
