//! `explain`: what a word that synfin prints means.

use std::io::{self, Write};

use terminal_size::terminal_size_of;

use crate::{
    cli::Form,
    explain::{Entry, list, page},
};

/// Explains these; without any, all: as text, that is a list of their names.
pub(crate) fn explain(entries: &[Entry], form: Form, out: &mut impl Write) -> io::Result<()> {
    match form {
        Form::Text if entries.is_empty() => out.write_all(list(width()).as_bytes())?,
        Form::Text => {
            let pages: Vec<_> = entries.iter().map(|entry| page(entry, width())).collect();
            out.write_all(pages.join("\n").as_bytes())?;
        }
        Form::Json if entries.is_empty() => {
            Entry::all().try_for_each(|entry| writeln!(out, "{}", entry.to_json()))?;
        }
        Form::Json => entries.iter().try_for_each(|entry| writeln!(out, "{}", entry.to_json()))?,
    }
    out.flush()
}

/// Lines of text are as long as the terminal is wide, but no longer than is good to read.
fn width() -> usize {
    const WIDEST: usize = 100;
    const NO_TERMINAL: usize = 80;
    terminal_size_of(io::stdout())
        .map_or(NO_TERMINAL, |(width, _)| usize::from(width.0).min(WIDEST))
}
