//! The flight recorder: a recording without end, in files that can each be read on their own. The
//! oldest files are deleted.

pub(crate) mod directory;
pub(crate) mod names;
pub(crate) mod retention;

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    path::Path,
    time::UNIX_EPOCH,
};

use directory::Directory;
pub(crate) use directory::files_in;
use names::NameCache;
use retention::Rotation;
pub use retention::{LEAST_SIZE, Limits};

use crate::{
    message::failure::Failure,
    record::errors,
    trace::{
        counters::{Counters, Tick},
        decode::kinds_in,
        recording::{Frame, Recorder},
        session::Session,
        time::{ClockAnchor, Nanos, nanos},
    },
};

/// Maximum size of the write buffer, apart from the last frame.
const BUFFER: usize = 1 << 20;

/// Writes frames to files in a directory.
pub struct FlightRecorder {
    limits: Limits,
    directory: Directory,
    /// The session at the start of the trace.
    session: Session,
    known: NameCache,
    present: Option<Present>,
    /// The next frame begins a new file.
    rotation_due: bool,
    /// The time of the last tick.
    now: Nanos,
    /// Counters of the kernel side at that time, since it was attached.
    counters: Counters,
    /// Records written by kind, including those since that tick.
    delivered: Counts,
}

type Counts = [u64; synfin_common::event::Kind::COUNT];

/// The current file.
struct Present {
    file: File,
    /// Writes to memory, so that a write to a full disk can be retried.
    recorder: Recorder<Vec<u8>>,
    began: Nanos,
    /// Bytes in the file.
    size: u64,
    /// Counters at its start.
    before: Counters,
}

impl FlightRecorder {
    /// Opens or creates the directory.
    ///
    /// # Errors
    ///
    /// The directory cannot be created, or holds files that a flight recorder did not write.
    pub fn new(path: &Path, limits: Limits) -> Result<Self, Failure> {
        let directory =
            Directory::open(path).map_err(|error| errors::unusable_directory(path, &error))?;
        Ok(Self {
            limits,
            directory,
            session: Session::default(),
            known: NameCache::default(),
            present: None,
            rotation_due: false,
            now: 0,
            counters: Counters::default(),
            delivered: Counts::default(),
        })
    }

    /// Appends a frame. Returns whether a new file begins, which needs a full scan.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn write(&mut self, frame: &Frame) -> Result<bool, Failure> {
        let written = self.take(frame);
        written.map_err(|error| errors::cut_short(self.directory.newest(), &error))
    }

    fn take(&mut self, frame: &Frame) -> io::Result<bool> {
        if let Frame::Session(session) = frame {
            self.session = (**session).clone();
            self.now = session.clock.monotonic_ns;
            self.known.learn_namespaces(&session.namespaces, &session.inodes);
            self.begin()?;
            return Ok(false);
        }
        let is_overdue = !self.rotation_due && self.rotation() == Rotation::Overdue;
        if is_overdue {
            // The counters of this tick include the records since the last one.
            self.append_tick(&Tick {
                time: self.now,
                counters: self.balanced(),
                ..Tick::default()
            })?;
        }
        if std::mem::take(&mut self.rotation_due) || is_overdue {
            self.begin()?;
        }
        let names = self.known.missing_in(frame);
        if !names.is_empty() {
            self.append(&Frame::Names(names))?;
        }
        let mut is_due = false;
        match frame {
            Frame::Tick(tick) => {
                self.now = self.now.max(tick.time);
                self.counters = tick.counters.clone();
                self.append_tick(tick)?;
                self.save()?;
                self.delete_superfluous(0)?;
                // Records in flight would be missing in the counters of one of the files.
                is_due = self.counters == self.balanced() && self.rotation() != Rotation::NotYet;
                self.rotation_due = is_due;
            }
            Frame::Events(batch) => {
                for kind in kinds_in(batch) {
                    self.delivered[kind as usize] += 1;
                }
                self.append(frame)?;
            }
            _ => self.append(frame)?,
        }
        Ok(is_due || is_overdue)
    }

    fn rotation(&self) -> Rotation {
        self.present.as_ref().map_or(Rotation::NotYet, |present| {
            let size = present.size + present.recorder.get_ref().len() as u64;
            self.limits.rotation(self.now.saturating_sub(present.began), size)
        })
    }

    /// The counters without records in flight.
    fn balanced(&self) -> Counters {
        let Counters { lost, filtered, .. } = &self.counters;
        let seen = std::array::from_fn(|kind| self.delivered[kind] + lost[kind] + filtered[kind]);
        Counters { seen, ..self.counters.clone() }
    }

    /// Begins a file with the frames that a new trace would begin with.
    fn begin(&mut self) -> io::Result<()> {
        self.save()?;
        let clock = ClockAnchor {
            monotonic_ns: self.now,
            realtime_ns: since_1970(&self.session.clock, self.now),
        };
        let file = loop {
            match self.directory.begin(clock.realtime_ns) {
                Ok(file) => break file,
                Err(error) => self.make_room(error)?,
            }
        };
        self.present = Some(Present {
            file,
            recorder: Recorder::new(Vec::new())?,
            began: self.now,
            size: 0,
            before: self.balanced(),
        });
        let mut session = Session { clock, ..self.session.clone() };
        self.known.begin(&mut session);
        self.append(&Frame::Session(Box::new(session)))?;
        self.save()
    }

    /// Appends a tick with counters relative to the start of the file.
    fn append_tick(&mut self, tick: &Tick) -> io::Result<()> {
        let Some(present) = &self.present else {
            return Ok(());
        };
        let before = &present.before;
        let since = |now: &Counts, before: &Counts| {
            std::array::from_fn(|kind| now[kind].saturating_sub(before[kind]))
        };
        let counters = Counters {
            seen: since(&tick.counters.seen, &before.seen),
            lost: since(&tick.counters.lost, &before.lost),
            filtered: since(&tick.counters.filtered, &before.filtered),
            refused: tick.counters.refused.saturating_sub(before.refused),
            missed: tick.counters.missed.saturating_sub(before.missed),
            skipped: tick.counters.skipped.saturating_sub(before.skipped),
            recovered: tick.counters.recovered.saturating_sub(before.recovered),
        };
        self.append(&Frame::Tick(Tick { counters, ..tick.clone() }))
    }

    fn append(&mut self, frame: &Frame) -> io::Result<()> {
        let Some(present) = &mut self.present else {
            return Ok(());
        };
        present.recorder.write(frame)?;
        if present.recorder.get_ref().len() < BUFFER { Ok(()) } else { self.save() }
    }

    /// Writes the buffer to the file.
    fn save(&mut self) -> io::Result<()> {
        let held_back = |present: &Present| present.recorder.get_ref().len();
        self.delete_superfluous(self.present.as_ref().map_or(0, held_back) as u64)?;
        while let Some(present) = &mut self.present {
            let held_back = present.recorder.get_mut();
            if held_back.is_empty() {
                break;
            }
            match present.file.write(held_back) {
                Ok(0) => self.make_room(ErrorKind::WriteZero.into())?,
                Ok(written) => {
                    held_back.drain(..written);
                    // Release the memory of a large frame.
                    held_back.shrink_to(2 * BUFFER);
                    present.size += written as u64;
                    self.directory.grew(written as u64);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.make_room(error)?,
            }
        }
        Ok(())
    }

    /// Deletes files that exceed the limits once `more` bytes are written.
    fn delete_superfluous(&mut self, more: u64) -> io::Result<()> {
        let now = since_1970(&self.session.clock, self.now);
        while let Some(next) = self.directory.second_began()
            && self.limits.deletes_oldest(next, now, self.directory.total() + more)
        {
            self.directory.delete_oldest()?;
        }
        Ok(())
    }

    /// Frees space on a full disk by deleting the oldest file; otherwise returns the error.
    fn make_room(&mut self, error: io::Error) -> io::Result<()> {
        let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        if is_full && self.directory.delete_oldest()? { Ok(()) } else { Err(error) }
    }
}

impl Drop for FlightRecorder {
    fn drop(&mut self) {
        // Errors have been reported already.
        let _ = self.save();
    }
}

fn since_1970(clock: &ClockAnchor, time: Nanos) -> Nanos {
    nanos(clock.date(time).duration_since(UNIX_EPOCH).unwrap_or_default())
}
