//! What goes out: tables, JSON lines and CSV over the tracker's values. A sink never looks
//! anything up; what it shows is in the values.

pub mod column;
pub mod column_kind;
pub mod connection;
pub(crate) mod csv_rows;
pub mod diagnosis;
pub(crate) mod json_lines;
pub mod port_columns;
pub mod report;
pub(crate) mod table;
pub mod transition;
pub mod value;

use std::io::{self, Write};

use clap::ValueEnum;

use crate::{
    analysis::diagnose,
    output::{
        column::{Column, ColumnInfo, to_cells, to_headings},
        port_columns::COLUMNS,
    },
    tcp::group_by::By,
};

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
    pub fn settle(&mut self) -> io::Result<()> {
        self.csv_heading();
        self.error.take().map_or(Ok(()), Err)?;
        self.out.flush()
    }
}

/// All figures of one kind of thing.
pub struct Registry {
    /// The command that shows them.
    pub command: &'static str,
    /// What they are figures of.
    pub of: &'static str,
    /// What is said about each, in their order.
    pub columns: Vec<ColumnInfo>,
}

/// Every figure that there is.
pub fn registries() -> [Registry; 6] {
    fn column_infos<T>(columns: &[Column<T>]) -> Vec<ColumnInfo> {
        columns.iter().map(|column| column.about).collect()
    }
    let whole = [column_infos(report::HEADER), column_infos(report::EVENTS)].concat();
    [
        Registry {
            command: "report",
            of: "a role and service port",
            columns: column_infos(COLUMNS),
        },
        Registry { command: "report", of: "the report as a whole", columns: whole },
        Registry {
            command: "connections",
            of: "a connection",
            columns: column_infos(connection::COLUMNS),
        },
        Registry {
            command: "trace",
            of: "a transition",
            columns: column_infos(transition::COLUMNS),
        },
        Registry {
            command: "diagnose",
            of: "a finding",
            columns: column_infos(diagnose::FINDING_COLUMNS),
        },
        Registry {
            command: "diagnose",
            of: "the diagnosis as a whole",
            columns: column_infos(diagnosis::DIAGNOSIS),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::column::Visibility;

    #[test]
    fn every_figure_has_a_name_of_its_own_and_a_meaning() {
        for Registry { columns, .. } in registries() {
            for (index, column) in columns.iter().enumerate() {
                assert!(column.help.ends_with('.'), "{}", column.key);
                let no_table_has_it = matches!(column.shown, Visibility::Data | Visibility::Json);
                assert_eq!(column.title.is_empty(), no_table_has_it, "{}", column.key);
                for other in &columns[index + 1..] {
                    assert_ne!(column.key, other.key);
                    let nested = |a: &str, b: &str| {
                        b.strip_prefix(a).is_some_and(|rest| rest.starts_with('.'))
                    };
                    assert!(
                        !nested(column.key, other.key) && !nested(other.key, column.key),
                        "{}",
                        other.key
                    );
                }
            }
        }
    }
}
