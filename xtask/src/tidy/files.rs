//! A file begins with its purpose, is not too long, and names no directory of one machine.
//! (`git diff --check` and `.gitattributes` check whitespace at the ends of lines, cargo-deny checks
//! registries.)

use super::{SourceFile, Violation};

/// Maximum lines of code in a file, without comments, blank lines and tests.
const MAX_LINES: usize = 400;

/// Directories at the root of one machine.
const FOLDERS: [&str; 3] = ["root", "work", "home"];

pub(super) fn check(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files {
        let mut report = |line, what: &str| {
            violations.push(Violation { path: file.path.clone(), line, what: what.to_owned() });
        };
        let is_rust = file.path.ends_with(".rs");
        if is_rust && !file.text.starts_with("//! ") {
            report(1, "begin the file with `//!` and a sentence about its purpose");
        }
        if is_rust && !file.path.contains("/tests/") && lines_of_code(&file.text) > MAX_LINES {
            report(1, &format!("over {MAX_LINES} lines of code: split the file"));
        }
        for (index, line) in file.text.lines().enumerate() {
            if FOLDERS.iter().any(|folder| names_folder(line, folder)) {
                report(index + 1, "a directory of one machine: use a relative path");
            }
        }
    }
    violations
}

fn lines_of_code(text: &str) -> usize {
    let code = text.lines().map(str::trim).take_while(|line| *line != "#[cfg(test)]");
    code.filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

/// Whether the line has a path below this root directory, not just a component of that name.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(&format!("/{folder}/")).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|before| !before.is_alphanumeric() && !"._-/}~*".contains(before))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&[SourceFile::new(path, text)]).iter().map(|found| found.line).collect()
    }

    #[test]
    fn code_begins_with_its_purpose() {
        assert_eq!(lines("a.rs", "//! Its purpose.\n\nfn f() {}\n"), [0; 0]);
        assert_eq!(lines("a.rs", "// A comment.\nfn f() {}\n"), [1]);
        assert_eq!(lines("a.toml", "[package]\n"), [0; 0]);
    }

    #[test]
    fn comments_and_tests_do_not_count() {
        let code = "//! A.\n".to_owned() + &"f();\n".repeat(MAX_LINES);
        let more = "// c\n\n#[cfg(test)]\nmod tests {\n    fn f() {}\n}\n";
        assert_eq!(lines("a.rs", &(code.clone() + more)), [0; 0]);
        assert_eq!(lines("a.rs", &(code.clone() + "g();\n")), [1]);
        assert_eq!(lines("a/tests/b.rs", &(code + "g();\n")), [0; 0]);
    }

    #[test]
    fn directories_of_one_machine_are_found() {
        let [root, work, home] = FOLDERS;
        assert_eq!(
            lines("a", &format!("see /{home}/me/x\n`/{root}/y`\npath=/{work}/z\n")),
            [1, 2, 3]
        );
        let elsewhere = format!("https://a.example/{home}/x\n{{root}}/{work}/z\n/var/{work}/\n");
        assert_eq!(lines("a", &elsewhere), [0; 0]);
    }
}
