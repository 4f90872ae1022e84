//! `cargo xtask bench`: what the kernel side costs, measured on this machine.

use std::ffi::OsString;

use crate::{root, workspace::Workspace};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// What the benchmark is called with
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let bench = workspace.cargo().args(["bench", "--package", "synfin", "--bench", "kernel_cost"]);
    let bench = bench.args(root::cargo_options("the benchmark")?);
    bench.arg("--").args(&options.args).run()?;
    Ok(())
}
