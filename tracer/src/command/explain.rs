//! `explain`: the meaning of close reasons, columns and TCP states.

use std::io::{self, Write};

use anyhow::Result;

use crate::{
    analysis::explain::{Entry, find, list, page},
    cli::{commands::ExplainArgs, output::Form},
    message::{
        exit::Exit,
        failure::{Failure, cannot_write},
        wrap::width,
    },
    output::stdout::Stdout,
};

pub(crate) fn run(args: &ExplainArgs) -> Result<Exit> {
    let found = args.words.iter().map(|word| find(word));
    let entries = found.collect::<Result<Vec<_>, _>>().map_err(Failure::from)?.concat();
    explain(&entries, args.output.form, &mut Stdout::direct()).map_err(cannot_write)?;
    Ok(Exit::Done)
}

/// Writes `entries`. If there are none, writes every entry as JSON, or a list of all names as text.
fn explain(entries: &[Entry], form: Form, out: &mut impl Write) -> io::Result<()> {
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
