//! What synfin says about itself: on stderr, as stdout is for data.

use std::io::{self, Write};

use crate::message::escape::escape_control;

/// Says something. Parts of it may come from elsewhere, so that it is made harmless; nobody may
/// listen, which is no error.
pub(crate) fn warn(text: &str) {
    warn_lines(&[escape_control(text)]);
}

/// Says something of several lines, which are harmless already.
pub(crate) fn warn_lines(lines: &[String]) {
    let _ = writeln!(io::stderr(), "synfin: {}", lines.join("\n"));
}

/// What is to be said while the terminal shows something else: it is said when this is dropped.
#[derive(Default)]
pub(crate) struct BufferedStderr(Vec<String>);

/// More is not kept.
const BUFFERED_LINES_LIMIT: usize = 100;

impl BufferedStderr {
    /// Keeps back what is said.
    pub(crate) fn warn(&mut self, text: &str) {
        // Whoever talks on and on has said it by then.
        if self.0.len() < BUFFERED_LINES_LIMIT {
            self.0.push(text.to_owned());
        }
    }
}

impl Drop for BufferedStderr {
    fn drop(&mut self) {
        self.0.iter().for_each(|text| warn(text));
    }
}
