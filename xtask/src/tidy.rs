//! `cargo xtask tidy`: the house rules that no compiler knows. A rule is a file below `tidy/`, with
//! the reason for it and a test that it can be broken.

mod files;
mod fixtures;
mod headings;
mod layers;
mod machines;
mod source;

use std::{fmt, fs, path::Path};

use anyhow::{Context as _, bail};
use source::Source;
use xshell::cmd;

use crate::workspace::Workspace;

/// Looks at all files.
type Rule = fn(&[Source]) -> Vec<Violation>;

const RULES: [Rule; 5] =
    [headings::check, layers::check, fixtures::check, machines::check, files::check];

/// Fails if a rule is broken, and says where, why it is one and what to do.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let files = files_of(workspace)?;
    let mut violations: Vec<_> = RULES.iter().flat_map(|rule| rule(&files)).collect();
    violations.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    for violation in &violations {
        eprintln!("{violation}");
    }
    match violations.len() {
        0 => Ok(()),
        1 => bail!("a house rule is broken: see above"),
        several => bail!("house rules are broken in {several} places: see above"),
    }
}

/// Where a rule is broken.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    path: String,
    /// From 1 on.
    line: usize,
    /// The rule, why it is one, and what to do.
    what: String,
}

impl Violation {
    fn new(source: &Source, line: usize, what: impl Into<String>) -> Self {
        Self { path: source.path.clone(), line, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// What is committed, or would be by `git add --all`.
fn files_of(workspace: &Workspace) -> anyhow::Result<Vec<Source>> {
    let sh = &workspace.sh;
    let paths = cmd!(sh, "git ls-files -z --cached --others --exclude-standard")
        .quiet()
        .read()
        .context("the house rules hold for what git knows of")?;
    let mut paths: Vec<_> = paths.split_terminator('\0').collect();
    paths.sort_unstable();
    paths.dedup();
    let files = paths.into_iter().filter_map(|path| read(&workspace.root, path).transpose());
    files.collect()
}

/// `None` for what was deleted but is in git's index still.
fn read(root: &Path, path: &str) -> anyhow::Result<Option<Source>> {
    match fs::read(root.join(path)) {
        Ok(bytes) => Ok(Some(Source::new(path, &bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {path}")),
    }
}
