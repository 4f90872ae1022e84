//! Where a recording goes to: one file, or the files of a flight recorder.

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
        owner_only,
    },
    trace::recording::{Frame, Recorder},
};

/// A recording tells who talked to whom: it is for its owner's eyes, even if the file was there.
pub(crate) fn record_to(path: &Path) -> Result<Recorder<BufWriter<File>>, Failure> {
    let open = || Recorder::new(BufWriter::with_capacity(1 << 20, owner_only::create(path)?));
    open().map_err(|error| errors::unwritable(path, &error))
}

/// Takes the frames of a recording.
pub(crate) enum RecordingSink {
    File(Recorder<BufWriter<File>>, PathBuf),
    Flight(Box<FlightRecorder>),
}

impl RecordingSink {
    pub(crate) fn file(path: PathBuf) -> Result<Self, Failure> {
        Ok(Self::File(record_to(&path)?, path))
    }

    /// Files in a directory, the oldest of which go.
    pub(crate) fn flight(directory: &Path, limits: Limits) -> Result<Self, Failure> {
        Ok(Self::Flight(Box::new(FlightRecorder::new(directory, limits)?)))
    }

    /// Appends a frame. Says whether a file begins that needs a survey of what there is. After a
    /// failure, the recording is over.
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
                // What it still holds back may find room by now.
                let _ = recorder.flush();
                Err(errors::cut_short(path, &error))
            }
        }
    }
}
