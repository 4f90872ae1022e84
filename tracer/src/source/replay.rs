//! A recording as a stream of frames: one file, or the files of a flight recorder, read as a single
//! recording.

use std::{
    collections::VecDeque,
    fs::{self, File},
    future::ready,
    io::{self, BufReader, ErrorKind},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{NextFrame, Source};
use crate::{
    record::flight::files_in,
    trace::{
        counters::{Counters, Tick},
        recording::{Frame, Reader, RecordingError},
        session::Session,
    },
};

type FileReader = Reader<BufReader<File>>;

/// Reads the frames of a recording.
pub struct Replay {
    reader: FileReader,
    /// Files to read after the current one.
    rest: VecDeque<PathBuf>,
    /// The session, if it has been read but not returned yet.
    session: Option<Box<Session>>,
    /// The counters of the previous files, and below those of the current file so far.
    before: Counters,
    counters: Counters,
}

impl Source for Replay {
    fn next(&mut self) -> NextFrame<'_> {
        Box::pin(ready(self.next_frame()))
    }
}

impl Replay {
    /// Opens a recording: a file, or the directory of a flight recorder.
    ///
    /// # Errors
    ///
    /// The file or directory cannot be read, is not a recording, or has no recordings in it.
    pub fn open(path: &Path) -> Result<Self> {
        if fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
            return Self::open_directory(path);
        }
        Ok(Self::of(open(path)?, VecDeque::new(), None))
    }

    fn of(reader: FileReader, rest: VecDeque<PathBuf>, session: Option<Box<Session>>) -> Self {
        let (before, counters) = Default::default();
        Self { reader, rest, session, before, counters }
    }

    /// Opens the files of the last run in a directory.
    fn open_directory(path: &Path) -> Result<Self> {
        let mut files =
            files_in(path).with_context(|| format!("cannot read {}", path.display()))?;
        // The flight recorder may have been killed before it wrote anything to its last file.
        files.pop_if(|(_, path)| fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0));
        let Some((_, newest)) = files.pop() else {
            let why = "this is a directory without a flight recorder's files";
            return Err(io::Error::new(ErrorKind::IsADirectory, why).into());
        };
        let (mut reader, mut session) = begin(&newest)?;
        let mut paths = VecDeque::from([newest]);
        let mut more = false;
        while let Some((_, path)) = files.pop() {
            match begin(&path) {
                Ok(earlier) if earlier.1.is_same_run(&session) => (reader, session) = earlier,
                Ok(_) | Err(_) => {
                    more = true;
                    break;
                }
            }
            paths.push_front(path);
        }
        if more {
            session.limitations.push(format!(
                "{} has files of earlier runs as well, which are not read: name one of them to read it",
                path.display()
            ));
        }
        paths.pop_front();
        Ok(Self::of(reader, paths, Some(session)))
    }

    fn next_frame(&mut self) -> Result<Option<Frame>> {
        if let Some(session) = self.session.take() {
            return Ok(Some(Frame::Session(session)));
        }
        loop {
            match self.reader.next().transpose()? {
                Some(Frame::Tick(tick)) => {
                    self.counters = tick.counters.clone();
                    let counters = self.before.plus(&tick.counters);
                    return Ok(Some(Frame::Tick(Tick { counters, ..tick })));
                }
                Some(frame) => return Ok(Some(frame)),
                None => {}
            }
            let Some(next) = self.rest.pop_front() else {
                return Ok(None);
            };
            // The counters of each file start at zero.
            self.before = self.before.plus(&std::mem::take(&mut self.counters));
            (self.reader, _) = begin(&next)?;
        }
    }
}

fn open(path: &Path) -> Result<FileReader> {
    let file = File::open(path)
        .with_context(|| format!("cannot open the recording {}", path.display()))?;
    Reader::new(BufReader::with_capacity(1 << 20, file))
        .with_context(|| format!("cannot read {}", path.display()))
}

/// Opens a recording and reads its session.
fn begin(path: &Path) -> Result<(FileReader, Box<Session>)> {
    let mut reader = open(path)?;
    match reader.next().transpose()? {
        Some(Frame::Session(session)) => Ok((reader, session)),
        _ => Err(RecordingError::no_session().into()),
    }
}
