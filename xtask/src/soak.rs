//! `cargo xtask soak`: makes millions of connections, and checks that none is lost and that memory
//! does not grow.

use crate::{root, workspace::Workspace};

/// The kernel test.
const TEST: &str = "soak::millions_of_connections_are_counted_in_constant_memory";

/// The variable that sets the test's number of connections.
const CONNECTIONS: &str = "SYNFIN_SOAK_CONNECTIONS";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of connections
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(300_000..))]
    connections: u64,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let test = ["test", "--package", "synfin", "--profile", "testing", "--test", "kernel"];
    let test = workspace.cargo().args(test).args(root::cargo_options("the soak test")?);
    let test = test.args(["--", "--ignored", "--exact", TEST, "--nocapture"]);
    Ok(test.env(CONNECTIONS, options.connections.to_string()).run()?)
}
