//! Links within the documentation lead somewhere.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Lines of README.md, which is read before anything else.
const LONGEST_README: usize = 200;

#[test]
fn links_lead_to_files_and_headings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut broken = Vec::new();
    for page in pages(&root) {
        let text = fs::read_to_string(&page).expect("the page");
        for link in links(&text).filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            let has_heading = || {
                let text = fs::read_to_string(&target).unwrap_or_default();
                headings(&text).any(|found| found == heading)
            };
            if !target.exists() || !heading.is_empty() && !has_heading() {
                broken.push(format!("{}: {link}", page.strip_prefix(&root).unwrap().display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_readme_is_short() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let lines = readme.lines().count();
    assert!(lines <= LONGEST_README, "README.md has {lines} lines: move some to docs");
}

fn pages(root: &Path) -> Vec<PathBuf> {
    let in_folder = |folder: &str| {
        let files = fs::read_dir(root.join(folder)).expect("a folder");
        files.map(|file| file.unwrap().path()).collect::<Vec<_>>()
    };
    let all = ["", "docs", "tracer/tests"].into_iter().flat_map(in_folder);
    all.filter(|file| file.extension().is_some_and(|it| it == "md")).collect()
}

/// The targets of links and images, those in code blocks aside.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("\n```").step_by(2);
    prose.flat_map(|part| part.split("](").skip(1)).filter_map(|rest| Some(rest.split_once(')')?.0))
}

/// The names under which Markdown renderers offer the headings.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let titles =
        text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_matches('#'));
    titles.map(|title| {
        let letters = title.trim().to_lowercase();
        let kept = letters.chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

#[test]
fn headings_are_named_as_by_renderers() {
    let text = "# A\n\n## `failed`: never established\n\n### 9. Possible \"SYN flooding\"\n";
    let expected = ["a", "failed-never-established", "9-possible-syn-flooding"];
    assert!(headings(text).eq(expected));
}
