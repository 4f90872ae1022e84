//! `completions`: scripts with which a shell completes the command line.

use std::io::{self, Write};

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::{
    cli::{Cli, commands::CompletionsArgs},
    message::{exit::Exit, failure::cannot_write},
    output::stdout::Stdout,
};

pub(crate) fn run(args: &CompletionsArgs) -> Result<Exit> {
    completions(args.shell, &mut Stdout::direct()).map_err(cannot_write)?;
    Ok(Exit::Done)
}

/// Writes the completion script for `shell`.
fn completions(shell: Shell, out: &mut impl Write) -> io::Result<()> {
    let mut synfin = Cli::command();
    let name = synfin.get_name().to_owned();
    // `generate` panics if it cannot write, so it writes to memory.
    let mut completions = Vec::new();
    generate(shell, &mut synfin, name, &mut completions);
    out.write_all(&completions)?;
    out.flush()
}
