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

use crate::figure::Figure;

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

/// Writes items one by one, as they come.
pub(crate) struct Stream<W, T: 'static> {
    out: W,
    style: Style,
    figures: &'static [Figure<T>],
    /// The columns of a table.
    columns: Vec<&'static Figure<T>>,
    begun: bool,
}

impl<W: Write, T> Stream<W, T> {
    pub(crate) fn new(out: W, style: Style, figures: &'static [Figure<T>]) -> Self {
        let columns = table::columns(figures, style.wide);
        Self { out, style, figures, columns, begun: false }
    }

    pub(crate) fn write(&mut self, item: &T) -> io::Result<()> {
        let heading = !std::mem::replace(&mut self.begun, true) && !self.style.no_header;
        match self.style.format {
            Format::Table => {
                table::line(&mut self.out, &self.columns, item, heading, self.style.terminal)
            }
            Format::Json => json_lines::line(&mut self.out, self.figures, item),
            Format::Csv => csv_rows::row(&mut self.out, &[], self.figures, item, heading),
        }
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A date as every output writes it: RFC 3339, UTC, microseconds.
pub(crate) fn date(time: std::time::SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}
