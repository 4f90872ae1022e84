//! Wraps labelled text to the width of the terminal.

use std::io;

use terminal_size::terminal_size_of;
use textwrap::{Options, WordSplitter, fill};

/// Indentation of the lines after the labelled one.
const INDENT: &str = "           ";

/// Wraps `text` to `width` columns. The first line begins with `label`; the others are indented.
pub(crate) fn wrap_with_label(label: &str, text: &str, width: usize) -> String {
    let label = labelled(label);
    let options = Options::new(width).word_splitter(WordSplitter::NoHyphenation);
    fill(text, options.initial_indent(&label).subsequent_indent(INDENT)) + "\n"
}

/// The beginning of a line with this label.
pub(crate) fn labelled(label: &str) -> String {
    format!("  {label:<9}")
}

/// The width for text, in columns: that of the terminal, but at most 100, and 80 without a
/// terminal.
pub(crate) fn width() -> usize {
    const MAX: usize = 100;
    const NO_TERMINAL: usize = 80;
    terminal_size_of(io::stdout()).map_or(NO_TERMINAL, |(width, _)| usize::from(width.0).min(MAX))
}
