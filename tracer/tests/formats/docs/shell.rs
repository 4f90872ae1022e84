//! Manual pages, and completions for shells.

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};
use synfin::{cli::Cli, exit::Exit};

use super::commands::{cli, visible};

/// One page for synfin, and one for each command.
pub(crate) fn manual_pages() -> Vec<(PathBuf, String)> {
    // The exit codes get a section of their own.
    let synfin = cli().after_help(None);
    let source = format!("synfin {}", synfin.get_version().expect("a version"));
    let commands: Vec<_> = [&synfin].into_iter().chain(visible(&synfin)).collect();
    let pages = commands.into_iter().map(|command| {
        let page = Man::new(command.clone()).source(source.as_str()).manual("synfin");
        let mut text = Vec::new();
        page.render(&mut text).unwrap();
        let text = String::from_utf8(text).expect("text");
        (Path::new("docs/man").join(page.get_filename()), in_ascii(&(text + &exit_status())))
    });
    pages.collect()
}

/// Not every troff takes anything else.
fn in_ascii(page: &str) -> String {
    let mut ascii = String::new();
    for letter in page.chars() {
        match letter {
            _ if letter.is_ascii() => ascii.push(letter),
            _ => ascii += &format!("\\[u{:04X}]", u32::from(letter)),
        }
    }
    ascii
}

fn exit_status() -> String {
    let mut section = Roff::new();
    section.control("SH", ["EXIT STATUS"]);
    for exit in Exit::ALL {
        section.control("TP", []);
        section.text([bold(exit.code().to_string())]);
        section.text([roman(exit.meaning())]);
    }
    section.to_roff()
}

/// For the shells that most people have; `synfin completions` knows more.
pub(crate) fn completions() -> Vec<(PathBuf, String)> {
    let files =
        [(Shell::Bash, "synfin.bash"), (Shell::Zsh, "_synfin"), (Shell::Fish, "synfin.fish")];
    let completions = files.map(|(shell, file)| {
        let mut text = Vec::new();
        generate(shell, &mut Cli::command(), "synfin", &mut text);
        let text = String::from_utf8(text).expect("text");
        (Path::new("docs/completions").join(file), text)
    });
    completions.into()
}
