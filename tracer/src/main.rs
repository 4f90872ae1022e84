//! The binary: parse, run, exit code.

use synfin::{app, cli, message::exit::Exit};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Exit {
    match cli::parse() {
        Ok(cli) => app::run(cli).await,
        Err(exit) => exit,
    }
}
