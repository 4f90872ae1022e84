//! What goes wrong, as whoever has to do with it needs to hear it: what, why, and the remedy.

use std::{
    fmt, fs,
    io::{self, ErrorKind},
    path::Path,
};

use thiserror::Error;

use crate::{
    message::{escape::escape_control, exit::Exit},
    trace::{
        recording::{Frame, MAGIC, Reader, RecordingError},
        time::{ClockAnchor, date},
    },
};

/// The last lines of a log that a message shows unless all are wanted.
const LOG_LINES: usize = 6;

/// A failure that is understood.
///
/// Its parts may quote paths and the like: they are made harmless where they are said.
#[derive(Debug, Error)]
#[error("{what}: {why}")]
pub struct Failure {
    /// What could not be done.
    pub what: String,
    /// The reason, as far as facts show it.
    pub why: String,
    /// What to do about it.
    pub remedy: String,
    /// What the kernel wrote about it, of any number of lines; mostly nothing.
    pub log: String,
    /// How the run ends.
    pub exit: Exit,
}

impl Failure {
    /// Something that this host does not allow or have.
    pub fn cannot_run(
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (what, why, remedy) = (what.into(), why.into(), remedy.into());
        Self { what, why, remedy, log: String::new(), exit: Exit::CannotRun }
    }

    /// Wrong usage, or a recording that cannot be read.
    pub fn usage(
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { exit: Exit::Usage, ..Self::cannot_run(what, why, remedy) }
    }

    /// As it is said, line by line; with the whole log if it is to be `verbose`.
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

    /// A recording that cannot be read, or not to its end. What came `before` has been put out.
    pub fn unreadable(path: &Path, error: &anyhow::Error, before: bool) -> Self {
        let file = path.display();
        let why = match error.downcast_ref::<RecordingError>() {
            Some(RecordingError::Io(error)) => describe(error),
            Some(error) => error.to_string(),
            None => {
                error.root_cause().downcast_ref().map_or_else(|| format!("{error:#}"), describe)
            }
        };
        let (what, mut remedy) = if before {
            (
                format!("the recording {file} can be read only in part"),
                "what is printed above comes from the part before that".to_owned(),
            )
        } else {
            (format!("cannot read the recording {file}"), String::new())
        };
        let advice = match error.downcast_ref() {
            Some(RecordingError::Foreign) => "give a file that `synfin record` wrote",
            Some(RecordingError::Version(version)) if *version > MAGIC[7] => {
                "read it with the newer synfin that wrote it"
            }
            Some(RecordingError::Version(_)) => "read it with the older synfin that wrote it",
            Some(RecordingError::Truncated(_)) => {
                "its writer was killed or its disk was full, or it was not copied to its end: copy it again if so"
            }
            Some(RecordingError::Damaged { .. }) => {
                "copy it again if it was copied; if it came so, record again"
            }
            Some(RecordingError::Io(_)) | None => match kind(error) {
                Some(ErrorKind::PermissionDenied) => {
                    "recordings are for their owner's eyes: read it as its owner, or as root"
                }
                Some(ErrorKind::NotFound) => "check the path: --from takes a recording's file",
                Some(ErrorKind::IsADirectory) => {
                    "give the file itself, or a directory that `synfin record --keep` wrote"
                }
                _ => "see that the file system is in order, then try again",
            },
        };
        if !remedy.is_empty() {
            remedy += "; ";
        }
        Self::usage(what, why, remedy + advice)
    }

    /// A path to which nothing can be recorded.
    pub fn unwritable(path: &Path, error: &io::Error) -> Self {
        let what = format!("cannot write the recording {}", path.display());
        let why = describe(error);
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                Self::usage(what, why, "make its directory first, or name another file")
            }
            ErrorKind::IsADirectory => Self::usage(
                what,
                why,
                "name a file in it, or say how much is kept there (--keep, --max-size)",
            ),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Self::cannot_run(what, why, "name a file where this user may write")
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                Self::cannot_run(what, why, "make room, or name a file on another disk")
            }
            _ => Self::cannot_run(what, why, "name a file on another disk"),
        }
    }

    /// A directory that a flight recorder cannot use.
    pub fn no_flight_recorder(path: &Path, error: &io::Error) -> Self {
        let what = format!("cannot record to the directory {}", path.display());
        let why = describe(error);
        match error.kind() {
            ErrorKind::NotFound => Self::usage(what, why, "make the directory above it first"),
            ErrorKind::NotADirectory => {
                Self::usage(what, why, "name a directory, or leave --keep and --max-size out")
            }
            ErrorKind::ResourceBusy => {
                Self::usage(what, "another synfin records there", "name another directory")
            }
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Self::cannot_run(what, why, "name a directory where this user may write")
            }
            _ => Self::cannot_run(what, why, "make room, or name a directory on another disk"),
        }
    }

    /// A recording that could be written up to some point, at `path`.
    pub fn cut_short(path: &Path, error: &io::Error) -> Self {
        let remedy = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                "make room, or record to another disk"
            }
            _ => "record to another disk",
        };
        let readable = Readable::of(path);
        Self::cannot_run(
            format!("cannot go on writing the recording {}", path.display()),
            describe(error),
            format!("{remedy}; {readable}"),
        )
    }
}

/// The operating system's error without its number, in a sentence.
pub(crate) fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text).to_owned()
}

fn kind(error: &anyhow::Error) -> Option<ErrorKind> {
    error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind)
}

/// What can still be read of a recording that was cut short.
enum Readable {
    Nothing,
    /// So many bytes of whole frames, up to a date if there is one.
    Until(u64, Option<String>),
}

impl Readable {
    fn of(path: &Path) -> Self {
        // What is no file, a device for one, may give anything.
        if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
            return Self::Nothing;
        }
        let Some(mut reader) =
            fs::File::open(path).ok().and_then(|file| Reader::new(io::BufReader::new(file)).ok())
        else {
            return Self::Nothing;
        };
        let mut anchor = ClockAnchor::default();
        let mut last = None;
        let mut end = None;
        while let Some(Ok(frame)) = reader.next() {
            end = Some(reader.offset());
            match frame {
                Frame::Session(session) => anchor = session.clock,
                Frame::Tick(tick) => last = Some(tick.time),
                _ => {}
            }
        }
        end.map_or(Self::Nothing, |end| Self::Until(end, last.map(|time| date(anchor.date(time)))))
    }
}

impl fmt::Display for Readable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing of it can be read"),
            Self::Until(bytes, None) => write!(f, "its first {bytes} bytes can be read"),
            Self::Until(bytes, Some(date)) => {
                write!(f, "what it has up to {date} ({bytes} bytes) can be read with --from")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_quoted_reaches_a_terminal_as_it_is() {
        let path = Path::new("/tmp/\x1b[2J\nsynfin: all is well");
        let log = "\x1b[31mred".to_owned();
        let failure = Failure { log, ..Failure::unwritable(path, &ErrorKind::NotFound.into()) };
        for line in failure.lines(true) {
            assert!(!line.contains(|character: char| character.is_control()), "{line:?}");
        }
    }

    #[test]
    fn who_has_to_do_something_decides_the_exit_code() {
        let code = |kind: ErrorKind| Failure::unwritable(Path::new("f"), &kind.into()).exit;
        assert_eq!(code(ErrorKind::NotFound), Exit::Usage);
        assert_eq!(code(ErrorKind::IsADirectory), Exit::Usage);
        assert_eq!(code(ErrorKind::PermissionDenied), Exit::CannotRun);
        assert_eq!(code(ErrorKind::StorageFull), Exit::CannotRun);
    }

    #[test]
    fn every_fault_of_a_recording_has_its_own_advice() {
        let faults = [
            RecordingError::Foreign,
            RecordingError::Version(MAGIC[7] + 1),
            RecordingError::Version(0),
            RecordingError::Truncated(9),
            RecordingError::Damaged { offset: 9, what: "x".into() },
            RecordingError::Io(ErrorKind::IsADirectory.into()),
            RecordingError::Io(ErrorKind::PermissionDenied.into()),
        ];
        let remedies = faults.map(|fault| {
            let error = anyhow::Error::new(fault).context("cannot read F");
            let failure = Failure::unreadable(Path::new("F"), &error, false);
            assert_eq!(
                (failure.exit, failure.what.as_str()),
                (Exit::Usage, "cannot read the recording F")
            );
            failure.remedy
        });
        let different: std::collections::HashSet<_> = remedies.iter().collect();
        assert_eq!(different.len(), remedies.len(), "{remedies:?}");
    }
}
