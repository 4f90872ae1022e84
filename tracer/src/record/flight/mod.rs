//! The flight recorder: a recording without end, in files of which each can be read by itself. The
//! oldest make room for the newest.

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

/// So much is held back at most, but for what one frame has.
const BUFFER: usize = 1 << 20;

/// Writes what it is given to files in a directory.
pub struct FlightRecorder {
    limits: Limits,
    folder: Directory,
    /// As the first file has it.
    session: Session,
    known: NameCache,
    present: Option<Present>,
    /// The next frame begins a new file.
    turns: bool,
    /// The time of the last tick.
    now: Nanos,
    /// What the kernel side had counted by then, since it was attached.
    counters: Counters,
    /// Records that were given, by kind, since then as well.
    delivered: Counts,
}

type Counts = [u64; synfin_common::event::Kind::COUNT];

/// The file that is written.
struct Present {
    file: File,
    /// Writes to memory: what has no room on the disk at first can be tried again.
    recorder: Recorder<Vec<u8>>,
    began: Nanos,
    /// Bytes in the file.
    size: u64,
    /// What was counted before it began.
    before: Counters,
}

impl FlightRecorder {
    /// Opens or makes the directory.
    ///
    /// # Errors
    ///
    /// The directory cannot be created, or holds files that a flight recorder did not write.
    pub fn new(path: &Path, limits: Limits) -> Result<Self, Failure> {
        let folder =
            Directory::open(path).map_err(|error| errors::unusable_directory(path, &error))?;
        Ok(Self {
            limits,
            folder,
            session: Session::default(),
            known: NameCache::default(),
            present: None,
            turns: false,
            now: 0,
            counters: Counters::default(),
            delivered: Counts::default(),
        })
    }

    /// Appends a frame. Says whether a new file begins, which needs a survey of what there is.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn write(&mut self, frame: &Frame) -> Result<bool, Failure> {
        let written = self.take(frame);
        written.map_err(|error| errors::cut_short(self.folder.newest(), &error))
    }

    fn take(&mut self, frame: &Frame) -> io::Result<bool> {
        if let Frame::Session(session) = frame {
            self.session = (**session).clone();
            self.now = session.clock.monotonic_ns;
            self.known.learn_namespaces(&session.namespaces);
            self.begin()?;
            return Ok(false);
        }
        let is_overdue = !self.turns && self.turn() == Rotation::Overdue;
        if is_overdue {
            // What was given since the last tick is in its books as well.
            self.append_tick(&Tick {
                time: self.now,
                counters: self.balanced(),
                ports: Vec::new(),
            })?;
        }
        if std::mem::take(&mut self.turns) || is_overdue {
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
                // While records are on their way, they would be missing in one file's books.
                is_due = self.counters == self.balanced() && self.turn() != Rotation::NotYet;
                self.turns = is_due;
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

    fn turn(&self) -> Rotation {
        self.present.as_ref().map_or(Rotation::NotYet, |present| {
            let size = present.size + present.recorder.get_ref().len() as u64;
            self.limits.turn(self.now.saturating_sub(present.began), size)
        })
    }

    /// The counters as they would be if no record were on its way.
    fn balanced(&self) -> Counters {
        let Counters { lost, filtered, .. } = &self.counters;
        let seen = std::array::from_fn(|kind| self.delivered[kind] + lost[kind] + filtered[kind]);
        Counters { seen, ..self.counters.clone() }
    }

    /// Begins a file: with what a trace knows that begins now.
    fn begin(&mut self) -> io::Result<()> {
        self.save()?;
        let clock = ClockAnchor {
            monotonic_ns: self.now,
            realtime_ns: since_1970(&self.session.clock, self.now),
        };
        let file = loop {
            match self.folder.begin(clock.realtime_ns) {
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
        let namespaces = self.known.namespaces().clone();
        let session = Session { clock, namespaces, ..self.session.clone() };
        self.known.begin();
        self.append(&Frame::Session(Box::new(session)))?;
        self.save()
    }

    /// Appends a tick, its counters told from the beginning of the file.
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
            missed: tick.counters.missed.saturating_sub(before.missed),
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

    /// Hands all that is held back to the operating system.
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
                    // A large frame does not keep its room.
                    held_back.shrink_to(2 * BUFFER);
                    present.size += written as u64;
                    self.folder.grew(written as u64);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.make_room(error)?,
            }
        }
        Ok(())
    }

    /// Deletes what the limits do not allow beside so many bytes more.
    fn delete_superfluous(&mut self, more: u64) -> io::Result<()> {
        let now = since_1970(&self.session.clock, self.now);
        while let Some(next) = self.folder.second_began()
            && self.limits.oldest_goes(next, now, self.folder.total() + more)
        {
            self.folder.delete_oldest()?;
        }
        Ok(())
    }

    /// Goes on where the disk is full and something could be deleted.
    fn make_room(&mut self, error: io::Error) -> io::Result<()> {
        let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        if is_full && self.folder.delete_oldest()? { Ok(()) } else { Err(error) }
    }
}

impl Drop for FlightRecorder {
    fn drop(&mut self) {
        // As much as still has room; whatever went wrong has been said.
        let _ = self.save();
    }
}

fn since_1970(clock: &ClockAnchor, time: Nanos) -> Nanos {
    nanos(clock.date(time).duration_since(UNIX_EPOCH).unwrap_or_default())
}
