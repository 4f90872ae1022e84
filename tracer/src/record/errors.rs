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

/// The error of a recording that cannot be read to its end. `before`: the readable part was printed.
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
            "the output above is from the readable part".to_owned(),
        )
    } else {
        (format!("cannot read the recording {file}"), String::new())
    };
    let advice = match error.downcast_ref() {
        Some(RecordingError::NotARecording) => "specify a file that `synfin record` wrote",
        Some(RecordingError::Version(version)) if *version > MAGIC[7] => {
            "read it with the newer version of synfin that wrote it"
        }
        Some(RecordingError::Version(_)) => {
            "read it with the older version of synfin that wrote it"
        }
        Some(RecordingError::Truncated(_)) => {
            "the writer was killed, its disk was full, or the copy is incomplete: if so, copy it again"
        }
        Some(RecordingError::Damaged { .. }) => {
            "copy it again; if the original is damaged, record again"
        }
        Some(RecordingError::Io(_)) | None => match kind(error) {
            Some(ErrorKind::PermissionDenied) => {
                "only its owner may read a recording: read it as its owner, or as root"
            }
            Some(ErrorKind::NotFound) => "check the path: --from takes the file of a recording",
            Some(ErrorKind::IsADirectory) => {
                "specify a file, or a directory that `synfin record --keep` wrote"
            }
            _ => "check the file system, then try again",
        },
    };
    if !remedy.is_empty() {
        remedy += "; ";
    }
    Failure::usage(what, why, remedy + advice)
}

/// The error of a file that cannot be created.
pub(crate) fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let what = format!("cannot write the recording {}", path.display());
    let why = describe(error);
    match error.kind() {
        ErrorKind::AlreadyExists => {
            Failure::usage(what, why, "specify another file, or --force to overwrite this one")
        }
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            Failure::usage(what, why, "create its directory first, or specify another file")
        }
        ErrorKind::IsADirectory => Failure::usage(
            what,
            why,
            "specify a file in it, or what to keep in the directory (--keep, --max-size)",
        ),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Failure::cannot_run(what, why, "specify a file where this user may write")
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Failure::cannot_run(what, why, "free space, or specify a file on another disk")
        }
        _ => Failure::cannot_run(what, why, "specify a file on another disk"),
    }
}

/// The error of a directory in which no recordings can be written.
pub(crate) fn unusable_directory(path: &Path, error: &io::Error) -> Failure {
    let what = format!("cannot record to the directory {}", path.display());
    let why = describe(error);
    match error.kind() {
        ErrorKind::NotFound => Failure::usage(what, why, "create its parent directory first"),
        ErrorKind::AlreadyExists => Failure::usage(
            what,
            why,
            "specify a new directory, or --force to overwrite files in this one",
        ),
        ErrorKind::NotADirectory => {
            Failure::usage(what, why, "specify a directory, or omit --keep and --max-size")
        }
        ErrorKind::ResourceBusy => {
            Failure::usage(what, "another synfin records to it", "specify another directory")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Failure::cannot_run(what, why, "specify a directory where this user may write")
        }
        _ => Failure::cannot_run(what, why, "free space, or specify a directory on another disk"),
    }
}

/// The error of a recording at `path` that could not be completed.
pub(crate) fn cut_short(path: &Path, error: &io::Error) -> Failure {
    let remedy = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "free space, or record to another disk"
        }
        _ => "record to another disk",
    };
    let readable = Readable::of(path);
    Failure::cannot_run(
        format!("cannot continue the recording {}", path.display()),
        describe(error),
        format!("{remedy}; {readable}"),
    )
}

fn kind(error: &anyhow::Error) -> Option<ErrorKind> {
    error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind)
}

/// The readable part of an incomplete recording.
enum Readable {
    Nothing,
    /// Number of bytes of complete frames, and the date of the last one if known.
    Until(u64, Option<String>),
}

impl Readable {
    fn of(path: &Path) -> Self {
        // Anything else, such as a device, may return arbitrary data.
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
            Self::Nothing => f.write_str("none of it is readable"),
            Self::Until(bytes, None) => write!(f, "its first {bytes} bytes are readable"),
            Self::Until(bytes, Some(date)) => {
                write!(f, "the part up to {date} ({bytes} bytes) can be read with --from")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::exit::Exit;

    #[test]
    fn the_exit_code_depends_on_who_can_mend_it() {
        let code = |kind: ErrorKind| unwritable(Path::new("f"), &kind.into()).exit;
        assert_eq!(code(ErrorKind::NotFound), Exit::Usage);
        assert_eq!(code(ErrorKind::IsADirectory), Exit::Usage);
        assert_eq!(code(ErrorKind::PermissionDenied), Exit::CannotRun);
        assert_eq!(code(ErrorKind::StorageFull), Exit::CannotRun);
    }

    #[test]
    fn every_error_of_a_recording_has_its_own_remedy() {
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
