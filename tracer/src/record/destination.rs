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
    /// A file, or with limits a directory of files, of which the oldest are deleted.
    pub(crate) fn open(path: PathBuf, limits: Option<Limits>) -> Result<Self, Failure> {
        Ok(match limits {
            Some(limits) => Self::Flight(Box::new(FlightRecorder::new(&path, limits)?)),
            None => Self::File(record_to(&path)?, path),
        })
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
