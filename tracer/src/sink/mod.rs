//! What goes out: tables, JSON lines and CSV over the tracker's values. A sink never looks
//! anything up; what it shows is in the values.

pub mod connection;
mod csv_rows;
mod json_lines;
pub mod report;
mod table;
pub mod transition;

use std::io::{self, Write};

use clap::ValueEnum;

use crate::{figure::Figure, tracker::By};

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
    figures: &'static [Figure<T>],
    /// The columns of a table.
    columns: Vec<&'static Figure<T>>,
    begun: bool,
    error: Option<io::Error>,
}

impl<W: Write, T> Lines<W, T> {
    /// Writes these figures to `out`.
    pub fn new(out: W, style: Style, figures: &'static [Figure<T>]) -> Self {
        let columns = table::columns(figures, style.wide, By::Port);
        Self { out, style, figures, columns, begun: false, error: None }
    }

    /// Writes one.
    pub fn write(&mut self, item: &T) {
        let heading = !std::mem::replace(&mut self.begun, true) && !self.style.no_header;
        let Self { out, style, figures, columns, .. } = self;
        let written = match style.format {
            Format::Table => table::line(out, columns, item, heading, style.terminal),
            Format::Json => json_lines::line(out, figures, item),
            Format::Csv => csv_rows::row(out, &[], figures, item, heading),
        };
        if let Err(error) = written {
            self.error.get_or_insert(error);
        }
    }

    /// Hands over what was written, or says what went wrong first.
    pub fn settle(&mut self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), Err)?;
        self.out.flush()
    }
}

/// A date as every output writes it: RFC 3339, UTC, microseconds.
pub(crate) fn date(time: std::time::SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}
