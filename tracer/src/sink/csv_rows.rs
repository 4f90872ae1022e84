//! Comma-separated values.

use std::io::{self, Write};

use crate::figure::{Figure, to_cells};

/// A row, after `before`, which are cells that are no figures of the item.
pub(super) fn row<T>(
    out: &mut impl Write,
    before: &[(String, String)],
    figures: &[Figure<T>],
    item: &T,
    heading: bool,
) -> io::Result<()> {
    let mut cells = before.to_vec();
    cells.extend(to_cells(figures, item));
    let mut writer = csv::Writer::from_writer(out);
    if heading {
        writer.write_record(cells.iter().map(|(name, _)| name))?;
    }
    writer.write_record(cells.iter().map(|(_, cell)| cell))?;
    writer.flush()
}
