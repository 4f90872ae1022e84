//! Comma-separated values.

use std::io::{self, Write};

use crate::figure::{Figure, to_cells};

/// A row, after `before`, which are cells that are no figures of the item.
pub(super) fn row<T>(
    out: &mut impl Write,
    before: &[(&str, String)],
    figures: &[Figure<T>],
    item: &T,
    heading: bool,
) -> io::Result<()> {
    let mut cells: Vec<_> =
        before.iter().map(|(name, cell)| ((*name).to_owned(), cell.clone())).collect();
    cells.extend(to_cells(figures, item));
    let mut writer = csv::Writer::from_writer(out);
    if heading {
        writer.write_record(cells.iter().map(|(name, _)| name))?;
    }
    writer.write_record(cells.iter().map(|(_, cell)| cell))?;
    writer.flush()
}
