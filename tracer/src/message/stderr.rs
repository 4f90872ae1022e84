//! Messages on stderr; stdout is for data.

use std::io::{self, Write};

use crate::message::escape::escape_control;

/// Prints a message, with control characters escaped because parts of it may be untrusted. Ignores
/// errors of writing to stderr.
pub(crate) fn warn(text: &str) {
    warn_lines(&[escape_control(text)]);
}

/// Prints a message of several lines, in which control characters have been escaped already.
pub(crate) fn warn_lines(lines: &[String]) {
    let _ = writeln!(io::stderr(), "synfin: {}", lines.join("\n"));
}

/// Buffers messages while the live view uses the terminal, and prints them when dropped.
#[derive(Default)]
pub(crate) struct BufferedStderr(Vec<String>);

/// Maximum number of buffered messages; later ones are dropped.
const MAX_BUFFERED: usize = 100;

impl BufferedStderr {
    /// Buffers a message.
    pub(crate) fn warn(&mut self, text: &str) {
        if self.0.len() < MAX_BUFFERED {
            self.0.push(text.to_owned());
        }
    }
}

impl Drop for BufferedStderr {
    fn drop(&mut self) {
        self.0.iter().for_each(|text| warn(text));
    }
}
