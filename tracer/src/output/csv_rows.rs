//! Comma-separated values.

use std::io::{self, Write};

/// Writes the heading or a row.
pub(super) fn line(out: &mut impl Write, cells: &[String]) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(cells)?;
    writer.flush()
}
