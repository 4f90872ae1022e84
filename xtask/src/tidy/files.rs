//! Files are whole and of a size that can be read: no leftovers of tools, no trailing blanks, a
//! newline at the end, and no more code in one than a reader keeps in mind.

use super::{Source, Violation};

/// Endings of what merges, patches and editors leave behind.
const LEFTOVERS: [&str; 6] = [".orig", ".rej", ".swp", ".bak", ".tmp", "~"];

/// Lines of code in a file, comments, blank lines and tests not counted.
const MOST_LINES: usize = 600;

/// Files of which there is more, and why.
const LONG: [(&str, &str); 0] = [];

/// What programs write: it is compared byte by byte, blanks included, or was found by fuzzing.
const AS_THEY_ARE: [&str; 3] = ["docs/man", "tracer/fuzz/regressions", "tracer/tests/golden"];

pub(super) fn check(files: &[Source]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files {
        if LEFTOVERS.iter().any(|ending| file.path.ends_with(ending)) {
            violations.push(Violation::new(file, 1, "a tool left it behind: delete it"));
        }
        if !AS_THEY_ARE.iter().any(|folder| file.is_below(folder)) && file.is_text {
            violations.extend(check_blanks(file));
        }
        violations.extend(check_length(file));
    }
    violations
}

fn check_blanks(file: &Source) -> Vec<Violation> {
    let lines = file.text.split('\n').enumerate();
    let trailing = lines.filter(|(_, line)| line.ends_with([' ', '\t', '\r']));
    let what = "blanks at the end of the line, which nobody sees but a diff: delete them";
    let mut violations: Vec<_> =
        trailing.map(|(index, _)| Violation::new(file, index + 1, what)).collect();
    let last = file.text.lines().count();
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        let what = "no newline at the end, so that the next line added changes this one: add it";
        violations.push(Violation::new(file, last, what));
    } else if file.text.ends_with("\n\n") {
        violations.push(Violation::new(file, last, "blank lines at the end: delete them"));
    }
    violations
}

fn check_length(file: &Source) -> Option<Violation> {
    let is_test = file.path.contains("/tests/");
    if !file.is_rust() || is_test || LONG.iter().any(|(long, _)| *long == file.path) {
        return None;
    }
    let lines = file.code().lines().filter(|line| !line.trim().is_empty()).count();
    (lines > MOST_LINES).then(|| {
        let what = format!(
            "{lines} lines of code, and {MOST_LINES} are the most: it does several things, so \
             make several files of it (or name it in xtask/src/tidy/files.rs, with the reason)"
        );
        Violation::new(file, 1, what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&[Source::new(path, text.as_bytes())]).iter().map(|found| found.line).collect()
    }

    #[test]
    fn leftovers_are_found() {
        assert_eq!(lines("a.rs.orig", ""), [1]);
        assert!(lines("original.rs", "").is_empty());
    }

    #[test]
    fn lines_and_files_end_as_they_should() {
        assert_eq!(lines("a.md", "one \ntwo\nthree\t\n"), [1, 3]);
        assert_eq!(lines("a.md", "one\ntwo"), [2]);
        assert_eq!(lines("a.md", "one\n\n"), [2]);
        assert!(lines("a.md", "one\n\ntwo\n").is_empty());
        assert!(lines("tracer/tests/golden/a.txt", "one \ntwo").is_empty());
        assert!(lines("a.bin", "\0 \n ").is_empty());
    }

    #[test]
    fn code_has_its_limit_and_comments_and_tests_have_none() {
        let code = "f();\n".repeat(MOST_LINES);
        assert!(lines("a.rs", &code).is_empty());
        assert_eq!(lines("a.rs", &(code.clone() + "g();\n")), [1]);
        let more = "// c\n\n#[cfg(test)]\nmod tests {\n    fn f() {}\n}\n";
        assert!(lines("a.rs", &(code.clone() + more)).is_empty());
        assert!(lines("a/tests/b.rs", &(code + "g();\n")).is_empty());
    }
}
