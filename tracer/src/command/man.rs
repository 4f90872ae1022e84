//! `man`: manual pages, for distribution packages.

use std::{fs, io, path::Path};

use anyhow::Result;
use clap::CommandFactory;

use crate::{
    cli::{Cli, commands::ManArgs},
    message::{exit::Exit, failure::cannot_write},
};

pub(crate) fn run(args: &ManArgs) -> Result<Exit> {
    man(&args.directory).map_err(cannot_write)?;
    Ok(Exit::Done)
}

/// Writes a manual page for synfin and one for each command into `directory`, and creates it if
/// needed.
fn man(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_options() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("man1");
        man(&directory).unwrap();
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = format!("synfin-{}.1", command.get_name());
            let page = fs::read_to_string(directory.join(&name)).unwrap().replace('\\', "");
            let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
            for option in shown.filter_map(|argument| argument.get_long()) {
                assert!(page.contains(&format!("--{option}")), "no --{option} in {name}");
            }
        }
        let page = fs::read_to_string(directory.join("synfin.1")).unwrap();
        assert!(page.contains("Exit status: 0 done"), "{page}");
    }
}
