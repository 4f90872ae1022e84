//! Tables with aligned columns.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use crate::{
    output::column::{Column, Reports, Visibility, Width},
    tcp::group_by::By,
};

const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// The columns that a table shows.
pub(super) fn columns<T>(
    columns: &'static [Column<T>],
    wide: bool,
    by: By,
    reports: Reports,
) -> Vec<&'static Column<T>> {
    let shown = |column: &&Column<T>| match column.info.visibility {
        Visibility::Table(_) => true,
        Visibility::In(those, _) => wide || those == reports,
        Visibility::Wide(_) => wide,
        Visibility::Grouped(group, _) => wide || group == by,
        Visibility::Data | Visibility::Footer | Visibility::Json => false,
    };
    columns.iter().filter(shown).collect()
}

/// Writes one line of a table of unknown length, with the least width of each column.
pub(super) fn line<T>(
    out: &mut impl Write,
    columns: &[&Column<T>],
    item: &T,
    heading: bool,
    terminal: bool,
) -> io::Result<()> {
    let cells = cells(columns, item);
    let widths: Vec<_> = columns.iter().map(|column| least_width(column)).collect();
    if heading {
        write_heading(out, columns, &widths, terminal)?;
    }
    write_cells(out, &cells, &widths)
}

/// Writes a whole table, each column as wide as its widest cell.
pub(super) fn whole<T>(
    out: &mut impl Write,
    columns: &[&Column<T>],
    items: &[T],
    heading: bool,
    terminal: bool,
) -> io::Result<()> {
    let rows: Vec<_> = items.iter().map(|item| cells(columns, item)).collect();
    let widest = |index: usize| rows.iter().map(|row| row[index].width()).max().unwrap_or(0);
    let width = |(index, column): (usize, &&Column<T>)| match least_width(column) {
        Width::Left(least) => Width::Left(least.max(widest(index))),
        Width::Right(least) => Width::Right(least.max(widest(index))),
    };
    let widths: Vec<_> = columns.iter().enumerate().map(width).collect();
    if heading {
        write_heading(out, columns, &widths, terminal)?;
    }
    rows.iter().try_for_each(|row| write_cells(out, row, &widths))
}

fn cells<T>(columns: &[&Column<T>], item: &T) -> Vec<String> {
    columns.iter().map(|column| column.value(item).to_plain()).collect()
}

/// The least width of a column: at least that of its title.
fn least_width<T>(column: &Column<T>) -> Width {
    let title = column.info.title.width();
    let width = match column.info.visibility {
        Visibility::Table(width)
        | Visibility::In(_, width)
        | Visibility::Wide(width)
        | Visibility::Grouped(_, width) => width,
        Visibility::Data | Visibility::Footer | Visibility::Json => Width::Left(0),
    };
    match width {
        Width::Left(width) => Width::Left(width.max(title)),
        Width::Right(width) => Width::Right(width.max(title)),
    }
}

fn write_heading<T>(
    out: &mut impl Write,
    columns: &[&Column<T>],
    widths: &[Width],
    terminal: bool,
) -> io::Result<()> {
    let titles: Vec<_> = columns.iter().map(|column| column.info.title.to_owned()).collect();
    if terminal {
        out.write_all(BOLD.as_bytes())?;
    }
    write_cells(out, &titles, widths)?;
    if terminal {
        out.write_all(PLAIN.as_bytes())?;
    }
    Ok(())
}

fn write_cells(out: &mut impl Write, cells: &[String], widths: &[Width]) -> io::Result<()> {
    let mut line = String::new();
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        if index > 0 {
            line.push(' ');
        }
        let padding = |width: usize| " ".repeat(width.saturating_sub(cell.width()));
        match *width {
            Width::Left(width) => {
                line.push_str(cell);
                line.push_str(&padding(width));
            }
            Width::Right(width) => {
                line.push_str(&padding(width));
                line.push_str(cell);
            }
        }
    }
    writeln!(out, "{}", line.trim_end())
}
