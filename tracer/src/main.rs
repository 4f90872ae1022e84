//! The program: parses the command line, runs the command, and exits with its status.

use synfin::{app, cli, message::exit::Exit};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Exit {
    match cli::parse() {
        Ok(cli) => app::run(cli).await,
        Err(exit) => exit,
    }
}
