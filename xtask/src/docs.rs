//! `cargo xtask docs`: writes what is said about synfin from its code. A test of the package knows
//! what that is, so that `cargo xtask test` notices what is out of date.

use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail if something is not as the code says
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let test = ["test", "--package", "synfin", "--profile", "testing", "--test", "docs"];
    let mut cargo = workspace.cargo().args(test);
    if !options.check {
        cargo = cargo.env("UPDATE_DOCS", "1");
    }
    Ok(cargo.run()?)
}
