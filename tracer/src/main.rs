//! The binary: parse, run, exit code.

use std::process::ExitCode;

use synfin::{app, cli};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match cli::parse() {
        Ok(cli) => app::run(cli).await,
        Err(code) => code,
    }
}
