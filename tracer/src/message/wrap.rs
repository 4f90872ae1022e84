//! Text for reading: lines with a label, wrapped.

use std::io;

use terminal_size::terminal_size_of;
use textwrap::{Options, fill};

/// Where the text of a labelled line begins.
const INDENT: &str = "           ";

/// A line with a label before it, and as many more as it takes.
pub(crate) fn wrap_with_label(label: &str, text: &str, width: usize) -> String {
    let label = format!("  {label:<9}");
    fill(text, Options::new(width).initial_indent(&label).subsequent_indent(INDENT)) + "\n"
}

/// Lines of text are as long as the terminal is wide, but no longer than is good to read.
pub(crate) fn width() -> usize {
    const WIDEST: usize = 100;
    const NO_TERMINAL: usize = 80;
    terminal_size_of(io::stdout())
        .map_or(NO_TERMINAL, |(width, _)| usize::from(width.0).min(WIDEST))
}
