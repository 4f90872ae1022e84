//! What goes out: tables, JSON lines and CSV over the tracker's values. A sink never looks
//! anything up; what it shows is in the values.

pub mod column;
pub mod column_kind;
pub mod connection;
pub(crate) mod consumer;
pub(crate) mod csv_rows;
pub(crate) mod json_lines;
pub mod port_columns;
pub mod report;
pub(crate) mod table;
pub mod transition;
pub mod value;

use std::io::{self, BufWriter, StdoutLock, Write};

use clap::ValueEnum;

use crate::{
    output::column::{Column, to_cells, to_headings},
    tcp::group_by::By,
};

/// Standard output, buffered: a sink flushes it when something is complete.
pub(crate) fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(1 << 16, io::stdout().lock())
}

/// What the version of a form means, whichever it is: docs/files.md has the whole of it.
pub(crate) const SCHEMA_HELP: &str =
    "Version of this form; it changes when something in it is renamed or goes away.";

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns, for the eyes
    #[default]
    Table,
    /// One JSON object a line
    Json,
    /// Comma-separated values with a heading
    Csv,
}

/// How to write.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// The form.
    pub format: Format,
    /// All columns of a table.
    pub wide: bool,
    /// No heading.
    pub no_header: bool,
    /// Colours and other terminal controls may be used.
    pub terminal: bool,
}

/// Writes items one by one, as they come. What could not be written is said when it is settled.
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
    /// Writes these figures to `out`.
    pub fn new(out: W, style: Style, columns: &'static [Column<T>]) -> Self {
        let shown = table::columns(columns, style.wide, By::Port);
        Self { out, style, columns, shown, begun: false, error: None }
    }

    /// Writes one.
    pub fn write(&mut self, item: &T) {
        self.csv_heading();
        let heading = self.takes_heading();
        let Self { out, style, columns, shown, .. } = self;
        let written = match style.format {
            Format::Table => table::line(out, shown, item, heading, style.terminal),
            Format::Json => json_lines::line(out, columns, item),
            Format::Csv => csv_rows::line(out, &to_cells(columns, item)),
        };
        self.keep(written);
    }

    /// Whether a heading is due, which it is once at most.
    fn takes_heading(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true) && !self.style.no_header
    }

    /// Before all rows, so that a file without any tells its columns all the same.
    fn csv_heading(&mut self) {
        if self.style.format == Format::Csv && self.takes_heading() {
            let written = csv_rows::line(&mut self.out, &to_headings(self.columns));
            self.keep(written);
        }
    }

    fn keep(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.error.get_or_insert(error);
        }
    }

    /// Hands over what was written, or says what went wrong first.
    ///
    /// # Errors
    ///
    /// Writing fails, other than to a pipe whose reader has gone.
    pub fn settle(&mut self) -> io::Result<()> {
        self.csv_heading();
        self.error.take().map_or(Ok(()), Err)?;
        self.out.flush()
    }
}
