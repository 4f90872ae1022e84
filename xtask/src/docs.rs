//! `cargo xtask docs`: generates the parts of the documentation that follow from the code. A test
//! generates them, so that `cargo xtask test` detects outdated files.

use crate::workspace::Workspace;

/// The kernel test that draws the pictures.
const PICTURES: &str = "screen::pictures_are_drawn_of_real_traffic";

/// The kernel test that plays the situations of `docs/findings.md`.
const SITUATIONS: &str = "situations::every_situation_is_diagnosed_and_no_other";

/// The test that generates the files.
const GENERATOR: &str = "docs::generated_pages_are_up_to_date";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail if a file is out of date
    #[arg(long)]
    check: bool,
    /// First draw the pictures from real traffic in network namespaces (as root)
    #[arg(long, conflicts_with = "check")]
    pictures: bool,
    /// First play the situations of docs/findings.md in network namespaces (as root)
    #[arg(long, conflicts_with = "check")]
    findings: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    for (is_wanted, update, test) in [
        (options.pictures, "UPDATE_PICTURES", PICTURES),
        (options.findings, "UPDATE_SITUATIONS", SITUATIONS),
    ] {
        if is_wanted {
            let tests = ["test", "--package", "synfin", "--profile", "testing", "--test", "kernel"];
            workspace.cargo().args(tests).args(["--", test]).env(update, "1").run()?;
        }
    }
    let formats = |filter| {
        let test = ["test", "--package", "synfin", "--profile", "testing", "--test", "formats"];
        workspace.cargo().args(test).args(["--", filter])
    };
    if !options.check {
        // Alone, as other tests read what it writes.
        formats(GENERATOR).env("UPDATE_DOCS", "1").run()?;
    }
    formats("docs::").run()?;
    Ok(())
}
