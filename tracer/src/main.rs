//! The binary: parse, run, exit code.

use clap::Parser;
use synfin::{app, cli::Cli, exit::Exit};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Exit {
    app::run(Cli::parse()).await
}
