//! The destination of a recording: one file, or the files of a flight recorder.

use std::{
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
};

use crate::{
    message::failure::Failure,
    record::{
        errors,
        flight::{FlightRecorder, Limits},
        owner_only::{self, Existing},
    },
    trace::recording::{Frame, Recorder},
};

/// Opens a file for a recording. Only its owner may read it, even if the file existed, because it
/// shows who communicates with whom.
pub(crate) fn record_to(
    path: &Path,
    existing: Existing,
) -> Result<Recorder<BufWriter<File>>, Failure> {
    let create = || owner_only::create(path, existing);
    let open = || Recorder::new(BufWriter::with_capacity(1 << 20, create()?));
    open().map_err(|error| errors::unwritable(path, &error))
}

/// Writes the frames of a recording.
pub(crate) enum RecordingSink {
    File(Recorder<BufWriter<File>>, PathBuf),
    Flight(Box<FlightRecorder>),
}

impl RecordingSink {
    /// Opens a file, or with limits the directory of a flight recorder.
    pub(crate) fn open(
        path: PathBuf,
        limits: Option<Limits>,
        existing: Existing,
    ) -> Result<Self, Failure> {
        Ok(match limits {
            Some(limits) => Self::Flight(Box::new(FlightRecorder::new(&path, limits)?)),
            None => Self::File(record_to(&path, existing)?, path),
        })
    }

    /// Appends a frame. Returns whether a new file begins, which needs a full scan. After an error the
    /// recording has ended.
    pub(crate) fn write(&mut self, frame: &Frame) -> Result<bool, Failure> {
        let (recorder, path) = match self {
            Self::File(recorder, path) => (recorder, path),
            Self::Flight(recorder) => return recorder.write(frame),
        };
        let flush = matches!(frame, Frame::Tick(_));
        let written =
            recorder.write(frame).and_then(|()| if flush { recorder.flush() } else { Ok(()) });
        match written {
            Ok(()) => Ok(false),
            Err(error) => {
                // Buffered frames may fit by now.
                let _ = recorder.flush();
                Err(errors::cut_short(path, &error))
            }
        }
    }
}
