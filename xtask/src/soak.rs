//! `cargo xtask soak`: millions of connections, one after the other: nothing is lost, nothing grows.

use crate::{root, workspace::Workspace};

/// The kernel test that does it.
const TEST: &str = "soak::millions_of_connections_are_all_in_the_report_and_take_no_more_memory";

/// How many, as that test takes it.
const CONNECTIONS: &str = "SYNFIN_SOAK_CONNECTIONS";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many connections are made
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(300_000..))]
    connections: u64,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let test = ["test", "--package", "synfin", "--profile", "testing", "--test", "kernel"];
    let test = workspace.cargo().args(test).args(root::cargo_options("the soak test")?);
    let test = test.args(["--", "--ignored", "--exact", TEST, "--nocapture"]);
    Ok(test.env(CONNECTIONS, options.connections.to_string()).run()?)
}
