//! Outputs: tables, JSON lines and CSV of the tracker's values.

pub mod column;
pub mod column_kind;
pub mod connection;
pub(crate) mod consumer;
pub(crate) mod csv_rows;
pub mod finding;
pub(crate) mod json_lines;
pub mod port_columns;
pub mod port_row;
pub mod report;
pub(crate) mod stdout;
pub(crate) mod table;
pub mod transition;
pub mod value;

use std::io::{self, Write};

use clap::ValueEnum;

use crate::{
    output::column::{Column, Reports, to_cells, to_headings},
    tcp::group_by::By,
};

/// Help of every `schema` column. docs/files.md has the policy.
pub(crate) const SCHEMA_HELP: &str =
    "Version of this schema; it changes when a field is renamed or removed.";

/// The output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns
    #[default]
    Table,
    /// One JSON object per line
    Json,
    /// Comma-separated values with a heading
    Csv,
}

/// Options of an output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// The format.
    pub format: Format,
    /// Show all columns in tables.
    pub wide: bool,
    /// Omit the heading.
    pub no_header: bool,
    /// Colours and other terminal controls may be used.
    pub terminal: bool,
}

/// Writes rows as they come. An error while writing is returned by the next [`Lines::flush`].
pub struct Lines<W, T: 'static> {
    out: W,
    style: Style,
    columns: &'static [Column<T>],
    /// The columns of a table.
    shown: Vec<&'static Column<T>>,
    begun: bool,
    error: Option<io::Error>,
}

impl<W: Write, T> Lines<W, T> {
    /// Writes rows with these columns to `out`.
    pub fn new(out: W, style: Style, columns: &'static [Column<T>]) -> Self {
        let shown = table::columns(columns, style.wide, By::Port, Reports::Several);
        Self { out, style, columns, shown, begun: false, error: None }
    }

    /// Writes a row.
    pub fn write(&mut self, item: &T) {
        self.csv_heading();
        let heading = self.take_heading();
        let Self { out, style, columns, shown, .. } = self;
        let written = match style.format {
            Format::Table => table::line(out, shown, item, heading, style.terminal),
            Format::Json => json_lines::line(out, columns, item),
            Format::Csv => csv_rows::line(out, &to_cells(columns, item)),
        };
        self.keep_error(written);
    }

    /// Whether to write the heading now. True once at most.
    fn take_heading(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true) && !self.style.no_header
    }

    /// Writes the heading even if no row follows, so that an empty file has its columns.
    fn csv_heading(&mut self) {
        if self.style.format == Format::Csv && self.take_heading() {
            let written = csv_rows::line(&mut self.out, &to_headings(self.columns));
            self.keep_error(written);
        }
    }

    fn keep_error(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.error.get_or_insert(error);
        }
    }

    /// Flushes the output.
    ///
    /// # Errors
    ///
    /// The first error since the last call.
    pub fn flush(&mut self) -> io::Result<()> {
        self.csv_heading();
        self.error.take().map_or(Ok(()), Err)?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{
        column::{Visibility, Width},
        column_kind::ColumnKind,
    };

    /// Words that these tables never show: they have `?` for an unknown role, and connections and
    /// transitions never have the state of a request.
    const NOT_SHOWN: [&str; 2] = ["unknown", "new_syn_recv"];

    /// A table whose lines are written one by one cannot adapt its columns. (Foreign text and IPv6
    /// addresses can be longer than theirs: room for the longest would make every line too long.)
    #[test]
    fn words_fit_into_the_columns_of_lines() {
        let connections = connection::COLUMNS.iter().map(|column| column.info);
        let transitions = transition::COLUMNS.iter().map(|column| column.info);
        let mut words_seen = 0;
        for info in connections.chain(transitions) {
            let (ColumnKind::Word(words), Visibility::Table(width) | Visibility::Wide(width)) =
                (info.kind, info.visibility)
            else {
                continue;
            };
            let (Width::Left(width) | Width::Right(width)) = width;
            for word in (words.all)().into_iter().filter(|word| !NOT_SHOWN.contains(word)) {
                assert!(word.len() <= width, "{word} does not fit into {}", info.key);
                words_seen += 1;
            }
        }
        assert!(words_seen > 40, "{words_seen}");
    }
}
