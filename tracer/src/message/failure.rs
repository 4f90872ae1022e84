//! Failures: what could not be done, why, and the remedy.

use std::io;

use thiserror::Error;

use crate::message::{escape::escape_control, exit::Exit};

/// Number of lines at the end of a log that a message shows unless it is verbose.
const LOG_LINES: usize = 6;

/// A failure with a known reason and a remedy.
///
/// The fields may contain untrusted text such as paths; [`lines`](Self::lines) escapes it.
#[derive(Debug, Error)]
#[error("{what}: {why}")]
pub struct Failure {
    /// What could not be done.
    pub what: String,
    /// The reason, as far as it is known.
    pub why: String,
    /// What the user can do about it.
    pub remedy: String,
    /// The log of the kernel, with any number of lines; usually empty.
    pub log: String,
    /// The exit status of the run.
    pub exit: Exit,
}

impl Failure {
    /// This host does not permit or does not have something that is needed.
    pub fn cannot_run(
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (what, why, remedy) = (what.into(), why.into(), remedy.into());
        Self { what, why, remedy, log: String::new(), exit: Exit::CannotRun }
    }

    /// The usage is wrong, or a recording cannot be read.
    pub fn usage(
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { exit: Exit::Usage, ..Self::cannot_run(what, why, remedy) }
    }

    /// A failure because a thread panicked. The message of the panic is on stderr already.
    pub(crate) fn panicked(what: &str) -> Self {
        let why = "it panicked, which is a bug in synfin";
        Self::cannot_run(what, why, "report it with the panic message above")
    }

    /// The lines to print, with control characters escaped. `verbose`: with the whole log.
    pub fn lines(&self, verbose: bool) -> Vec<String> {
        let mut lines = vec![
            escape_control(&self.what),
            format!("  why: {}", escape_control(&self.why)),
            format!("  remedy: {}", escape_control(&self.remedy)),
        ];
        let log: Vec<_> = self.log.lines().filter(|line| !line.trim().is_empty()).collect();
        let hidden = if verbose { 0 } else { log.len().saturating_sub(LOG_LINES) };
        match (log.len(), hidden) {
            (0, _) => {}
            (_, 0) => lines.push("  the kernel's log:".to_owned()),
            (all, _) => lines.push(format!(
                "  the last {LOG_LINES} of {all} lines of the kernel's log (-v shows all):"
            )),
        }
        lines.extend(log[hidden..].iter().map(|line| format!("    {}", escape_control(line))));
        lines
    }
}

/// The failure for output that could not be written. A closed pipe, which is no failure, stays an
/// [`io::Error`].
pub(crate) fn cannot_write(error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return error.into();
    }
    let remedy = "check whether its disk is full or its terminal is closed";
    Failure::cannot_run("cannot write the output", describe(&error), remedy).into()
}

/// Converts an error of a consumer. An [`io::Error`] is a failure to write the output.
pub(crate) fn explain_output(error: anyhow::Error) -> anyhow::Error {
    error.downcast().map_or_else(|other| other, cannot_write)
}

/// The message of an I/O error without the number of the operating system (`os error 2`).
pub(crate) fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let path = "/tmp/\x1b[2J\nsynfin: all is well";
        let log = "\x1b[31mred".to_owned();
        let failure = Failure { log, ..Failure::usage(path, path, path) };
        for line in failure.lines(true) {
            assert!(!line.contains(|character: char| character.is_control()), "{line:?}");
        }
    }
}
