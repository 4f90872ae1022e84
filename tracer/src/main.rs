//! The binary: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use synfin::{app, cli::Cli};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    app::run(Cli::parse()).await
}
