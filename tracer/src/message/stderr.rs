//! Messages on stderr; stdout is for data.

use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

use crate::message::escape::escape_control;

/// Prints a message, with control characters escaped because parts of it may be untrusted. Ignores
/// errors of writing to stderr.
pub(crate) fn warn(text: &str) {
    warn_lines(&[escape_control(text)]);
}

/// Prints a message of several lines, in which control characters have been escaped already.
pub(crate) fn warn_lines(lines: &[String]) {
    let text = format!("synfin: {}", lines.join("\n"));
    let mut held = BUFFERED.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *held {
        // The buffer is full: later messages are dropped.
        Some(texts) if texts.len() >= BUFFERED_LINES_LIMIT => {}
        Some(texts) => texts.push(text),
        None => {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

/// Buffers messages while the screen owns the terminal, and prints them when it is dropped.
pub(crate) struct BufferedStderr;

/// Maximum number of buffered messages; later ones are dropped.
const BUFFERED_LINES_LIMIT: usize = 100;

static BUFFERED: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// Starts to buffer messages.
pub(crate) fn buffer() -> BufferedStderr {
    *BUFFERED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
    BufferedStderr
}

impl Drop for BufferedStderr {
    fn drop(&mut self) {
        let texts = BUFFERED.lock().unwrap_or_else(PoisonError::into_inner).take();
        for text in texts.into_iter().flatten() {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}
