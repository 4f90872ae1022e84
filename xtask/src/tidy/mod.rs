//! `cargo xtask tidy`: rules for the sources that neither rustc, clippy nor cargo-deny checks.

mod circles;
mod files;
mod layers;
mod modules;

use std::{fmt, fs};

use anyhow::{Context as _, bail};
use xshell::cmd;

use self::modules::Modules;
use crate::workspace::Workspace;

/// The hash of git's empty tree, against which every file is new.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// Prints every violation of a rule, and fails if there is one.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let violations = check(&files_of(workspace)?)?;
    for violation in &violations {
        eprintln!("{violation}");
    }
    let sh = &workspace.sh;
    let blanks = cmd!(sh, "git diff --check {EMPTY_TREE}").quiet().run();
    if !violations.is_empty() || blanks.is_err() {
        bail!("rules for the sources are violated: see above");
    }
    Ok(())
}

fn check(files: &[SourceFile]) -> anyhow::Result<Vec<Violation>> {
    let modules = Modules::parse(files)?;
    Ok([files::check(files), layers::check(files, &modules), circles::check(&modules)].concat())
}

/// A text file of the repository.
struct SourceFile {
    /// The path relative to the root.
    path: String,
    text: String,
}

impl SourceFile {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }
}

/// The place and description of a violation.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Violation {
    path: String,
    /// Line number, from 1.
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// The text files that are committed, or that `git add --all` would add.
fn files_of(workspace: &Workspace) -> anyhow::Result<Vec<SourceFile>> {
    let sh = &workspace.sh;
    let paths = cmd!(sh, "git ls-files -z --cached --others --exclude-standard --deduplicate")
        .quiet()
        .read()
        .context("cannot list the files of the repository")?;
    let mut files = Vec::new();
    for path in paths.split_terminator('\0') {
        match fs::read(workspace.root.join(path)) {
            Ok(bytes) => {
                files
                    .extend(String::from_utf8(bytes).ok().map(|text| SourceFile::new(path, &text)));
            }
            // A deleted file that is still in git's index.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
        }
    }
    Ok(files)
}
