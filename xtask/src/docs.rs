//! `cargo xtask docs`: writes what is said about synfin from its code. A test of the package knows
//! what that is, so that `cargo xtask test` notices what is out of date.

use crate::workspace::Workspace;

/// The kernel test that draws the pictures.
const PICTURES: &str = "screen::pictures_are_drawn_of_real_traffic";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail if something is not as the code says
    #[arg(long)]
    check: bool,
    /// Draw the pictures anew too, of real traffic in namespaces of its own; as root
    #[arg(long, conflicts_with = "check")]
    pictures: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let test = ["test", "--package", "synfin", "--profile", "testing", "--test", "docs"];
    let mut cargo = workspace.cargo().args(test);
    if !options.check {
        cargo = cargo.env("UPDATE_DOCS", "1");
    }
    cargo.run()?;
    if options.pictures {
        let test = ["test", "--package", "synfin", "--profile", "testing", "--test", "kernel"];
        let cargo = workspace.cargo().args(test).arg("--").arg(PICTURES);
        cargo.env("UPDATE_PICTURES", "1").run()?;
    }
    Ok(())
}
