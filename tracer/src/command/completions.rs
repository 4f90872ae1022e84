//! `completions`: scripts with which a shell completes the command line.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::cli::Cli;

/// Writes the completion script for `shell`.
pub(crate) fn completions(shell: Shell, out: &mut impl Write) -> io::Result<()> {
    let mut synfin = Cli::command();
    let name = synfin.get_name().to_owned();
    // `generate` panics if it cannot write, so it writes to memory.
    let mut completions = Vec::new();
    generate(shell, &mut synfin, name, &mut completions);
    out.write_all(&completions)?;
    out.flush()
}
