//! What synfin says about itself: on stderr, as stdout is for data.

use std::io::{self, Write};

use crate::figure::harmless;

/// Says something. Parts of it may come from elsewhere, so that it is made harmless; nobody may
/// listen, which is no error.
pub(crate) fn say(text: &str) {
    let lines: Vec<_> = text.lines().map(harmless).collect();
    let _ = writeln!(io::stderr(), "synfin: {}", lines.join("\n"));
}
