//! What synfin says about itself: on stderr, as stdout is for data.

use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

use crate::message::escape::escape_control;

/// Says something. Parts of it may come from elsewhere, so that it is made harmless; nobody may
/// listen, which is no error.
pub(crate) fn warn(text: &str) {
    warn_lines(&[escape_control(text)]);
}

/// Says something of several lines, which are harmless already.
pub(crate) fn warn_lines(lines: &[String]) {
    let text = format!("synfin: {}", lines.join("\n"));
    let mut held = BUFFERED.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *held {
        // Whoever talks on and on has said it by then.
        Some(texts) if texts.len() >= BUFFERED_LINES_LIMIT => {}
        Some(texts) => texts.push(text),
        None => {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

/// What is said while the terminal shows something else, until it is dropped: then it is said.
pub(crate) struct BufferedStderr;

/// More is not kept.
const BUFFERED_LINES_LIMIT: usize = 100;

static BUFFERED: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// Keeps back what is said.
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
