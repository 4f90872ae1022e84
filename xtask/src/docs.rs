//! `cargo xtask docs`: generates the parts of the documentation that follow from the code. A test
//! generates them, so that `cargo xtask test` detects outdated files.

use crate::workspace::Workspace;

/// The kernel test that draws the pictures.
const PICTURES: &str = "screen::pictures_are_drawn_of_real_traffic";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail if a file is out of date
    #[arg(long)]
    check: bool,
    /// Also draw the pictures from real traffic in network namespaces (as root)
    #[arg(long, conflicts_with = "check")]
    pictures: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let test = ["test", "--package", "synfin", "--profile", "testing", "--test", "formats"];
    let mut cargo = workspace.cargo().args(test).args(["--", "docs::"]);
    if !options.check {
        cargo = cargo.env("UPDATE_DOCS", "1");
    }
    cargo.run()?;
    if options.pictures {
        let test = ["test", "--package", "synfin", "--profile", "testing", "--test", "kernel"];
        let cargo = workspace.cargo().args(test).args(["--", PICTURES]);
        cargo.env("UPDATE_PICTURES", "1").run()?;
    }
    Ok(())
}
