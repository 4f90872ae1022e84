//! Messages on stderr; stdout is for data.

use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

use crate::message::{escape::escape_control, patience};

/// Maximum number of messages that are kept; later ones are dropped.
const MAX_KEPT: usize = 100;

/// Messages for which stderr has no room while a live trace runs.
static UNPRINTED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Prints a message, with control characters escaped because parts of it may be untrusted. Ignores
/// errors of writing to stderr.
pub(crate) fn warn(text: &str) {
    warn_lines(&[escape_control(text)]);
}

/// Prints a message of several lines, in which control characters have been escaped already. If nobody
/// reads stderr, a live trace does not wait for that: the message is printed later, if at all.
pub(crate) fn warn_lines(lines: &[String]) {
    let mut unprinted = UNPRINTED.lock().unwrap_or_else(PoisonError::into_inner);
    if unprinted.len() < MAX_KEPT {
        unprinted.push(format!("synfin: {}\n", lines.join("\n")));
    }
    print(&mut unprinted);
}

/// Prints the messages for which stderr had no room.
pub(crate) fn flush() {
    print(&mut UNPRINTED.lock().unwrap_or_else(PoisonError::into_inner));
}

fn print(messages: &mut Vec<String>) {
    let mut printed = 0;
    while printed < messages.len() && (patience::may_wait() || has_room()) {
        let _ = io::stderr().write_all(messages[printed].as_bytes());
        printed += 1;
    }
    messages.drain(..printed);
}

/// Whether stderr takes a message without waiting: a pipe takes 4 KiB (`PIPE_BUF`) if it is writable,
/// which is more than most messages have.
#[cfg(feature = "live")]
fn has_room() -> bool {
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    let stderr = io::stderr();
    let mut descriptors = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    // The write reports the error.
    poll(&mut descriptors, PollTimeout::ZERO).map_or(true, |ready| ready > 0)
}

/// A build that only reads recordings has no live trace.
#[cfg(not(feature = "live"))]
fn has_room() -> bool {
    true
}

/// Buffers messages while the live view uses the terminal, and prints them when dropped.
#[derive(Default)]
pub(crate) struct BufferedStderr(Vec<String>);

impl BufferedStderr {
    /// Buffers a message.
    pub(crate) fn warn(&mut self, text: &str) {
        if self.0.len() < MAX_KEPT {
            self.0.push(text.to_owned());
        }
    }
}

impl Drop for BufferedStderr {
    fn drop(&mut self) {
        self.0.iter().for_each(|text| warn(text));
    }
}
