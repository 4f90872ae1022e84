//! `explain`: what a word that synfin prints means.

use std::io::{self, Write};

use crate::{
    analysis::explain::{Entry, list, page},
    cli::Form,
    message::wrap::width,
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
