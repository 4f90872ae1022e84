//! The errors of reading and writing recordings, as failures with their reason and remedy.

use std::{
    fmt, fs,
    io::{self, ErrorKind},
    path::Path,
};

use crate::{
    message::failure::{Failure, describe},
    trace::{
        recording::{Frame, MAGIC, Reader, RecordingError},
        time::{ClockAnchor, date},
    },
};

/// A recording that cannot be read, or not to its end. What came `before` has been put out.
pub(crate) fn unreadable(path: &Path, error: &anyhow::Error, before: bool) -> Failure {
    let file = path.display();
    let why = match error.downcast_ref::<RecordingError>() {
        Some(RecordingError::Io(error)) => describe(error),
        Some(error) => error.to_string(),
        None => error.root_cause().downcast_ref().map_or_else(|| format!("{error:#}"), describe),
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
        Some(RecordingError::NotARecording) => "give a file that `synfin record` wrote",
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
    Failure::usage(what, why, remedy + advice)
}

/// A path to which nothing can be recorded.
pub(crate) fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let what = format!("cannot write the recording {}", path.display());
    let why = describe(error);
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            Failure::usage(what, why, "make its directory first, or name another file")
        }
        ErrorKind::IsADirectory => Failure::usage(
            what,
            why,
            "name a file in it, or say how much is kept there (--keep, --max-size)",
        ),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Failure::cannot_run(what, why, "name a file where this user may write")
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Failure::cannot_run(what, why, "make room, or name a file on another disk")
        }
        _ => Failure::cannot_run(what, why, "name a file on another disk"),
    }
}

/// A directory that a flight recorder cannot use.
pub(crate) fn unusable_directory(path: &Path, error: &io::Error) -> Failure {
    let what = format!("cannot record to the directory {}", path.display());
    let why = describe(error);
    match error.kind() {
        ErrorKind::NotFound => Failure::usage(what, why, "make the directory above it first"),
        ErrorKind::NotADirectory => {
            Failure::usage(what, why, "name a directory, or leave --keep and --max-size out")
        }
        ErrorKind::ResourceBusy => {
            Failure::usage(what, "another synfin records there", "name another directory")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Failure::cannot_run(what, why, "name a directory where this user may write")
        }
        _ => Failure::cannot_run(what, why, "make room, or name a directory on another disk"),
    }
}

/// A recording that could be written up to some point, at `path`.
pub(crate) fn cut_short(path: &Path, error: &io::Error) -> Failure {
    let remedy = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "make room, or record to another disk"
        }
        _ => "record to another disk",
    };
    let readable = Readable::of(path);
    Failure::cannot_run(
        format!("cannot go on writing the recording {}", path.display()),
        describe(error),
        format!("{remedy}; {readable}"),
    )
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
    use crate::message::exit::Exit;

    #[test]
    fn who_has_to_do_something_decides_the_exit_code() {
        let code = |kind: ErrorKind| unwritable(Path::new("f"), &kind.into()).exit;
        assert_eq!(code(ErrorKind::NotFound), Exit::Usage);
        assert_eq!(code(ErrorKind::IsADirectory), Exit::Usage);
        assert_eq!(code(ErrorKind::PermissionDenied), Exit::CannotRun);
        assert_eq!(code(ErrorKind::StorageFull), Exit::CannotRun);
    }

    #[test]
    fn every_fault_of_a_recording_has_its_own_advice() {
        let faults = [
            RecordingError::NotARecording,
            RecordingError::Version(MAGIC[7] + 1),
            RecordingError::Version(0),
            RecordingError::Truncated(9),
            RecordingError::Damaged { offset: 9, what: "x".into() },
            RecordingError::Io(ErrorKind::IsADirectory.into()),
            RecordingError::Io(ErrorKind::PermissionDenied.into()),
        ];
        let remedies = faults.map(|fault| {
            let error = anyhow::Error::new(fault).context("cannot read F");
            let failure = unreadable(Path::new("F"), &error, false);
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
