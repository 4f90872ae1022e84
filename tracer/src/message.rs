//! What synfin says about itself: on stderr, as stdout is for data.

use std::io::{self, Write};

use crate::harmless::harmless;

/// Says something. Parts of it may come from elsewhere, so that it is made harmless; nobody may
/// listen, which is no error.
pub(crate) fn say(text: &str) {
    say_lines(&[harmless(text)]);
}

/// Says something of several lines, which are harmless already.
pub(crate) fn say_lines(lines: &[String]) {
    let _ = writeln!(io::stderr(), "synfin: {}", lines.join("\n"));
}

/// Where the kernel side's log goes. Its level is decided before it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        say(&format!("kernel side: {}", record.args()));
    }

    fn flush(&self) {}
}
