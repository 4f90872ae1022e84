//! Every file of Rust says first what it is for.

use super::{Source, Violation};

pub(super) fn check(files: &[Source]) -> Vec<Violation> {
    let without =
        files.iter().filter(|file| file.is_rust()).filter(|file| !file.text.starts_with("//! "));
    without
        .map(|file| {
            Violation::new(
                file,
                1,
                "a file begins with `//!` and what it is for, so that a reader knows whether to \
                 read on: say it in a sentence or two",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_needs_a_heading_and_other_files_do_not() {
        let files = [
            Source::new("good.rs", b"//! What it is for.\n\nfn f() {}\n"),
            Source::new("bad.rs", b"// A comment.\nfn f() {}\n"),
            Source::new("empty.rs", b""),
            Source::new("a.toml", b"[package]\n"),
        ];
        let places: Vec<_> = check(&files).into_iter().map(|found| found.path).collect();
        assert_eq!(places, ["bad.rs", "empty.rs"]);
    }
}
