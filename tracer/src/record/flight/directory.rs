//! The directory of a flight recorder: its files, ordered by age. Other files are left alone.

use std::{
    collections::VecDeque,
    fs::{self, File, TryLockError},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{record::owner_only, trace::time::Nanos};

const PREFIX: &str = "synfin-";
const SUFFIX: &str = ".rec";
const MILLISECOND: Nanos = 1_000_000;

/// The files in a directory, oldest first.
pub(super) struct Directory {
    path: PathBuf,
    /// Locked while open, so that two recorders do not delete each other's files.
    _lock: File,
    files: VecDeque<RecordedFile>,
    total: u64,
}

/// A file of a flight recorder.
struct RecordedFile {
    path: PathBuf,
    /// Its start, in nanoseconds since 1970.
    began: Nanos,
    size: u64,
}

impl Directory {
    /// Opens or creates the directory. Files of earlier runs count.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match owner_only::create_dir(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let files = files_in(path)?;
        let lock = File::open(path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ErrorKind::ResourceBusy.into()),
            // The file system has no locks: two recorders cannot be kept apart.
            Err(TryLockError::Error(_)) => {}
        }
        let mut kept = VecDeque::new();
        for (began, path) in files {
            let size = fs::symlink_metadata(&path)?.len();
            kept.push_back(RecordedFile { path, began, size });
        }
        let total = kept.iter().map(|file| file.size).sum();
        Ok(Self { path: path.to_owned(), _lock: lock, files: kept, total })
    }

    /// Creates a file named after its start, or after the next time without a file.
    pub(super) fn begin(&mut self, began: Nanos) -> io::Result<File> {
        let mut named = began;
        loop {
            let path = self.path.join(name(named));
            match owner_only::create_new(&path) {
                Ok(file) => {
                    self.files.push_back(RecordedFile { path, began, size: 0 });
                    return Ok(file);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => named += MILLISECOND,
                Err(error) => return Err(error),
            }
        }
    }

    /// The newest file; the directory if there is none.
    pub(super) fn newest(&self) -> &Path {
        self.files.back().map_or(&self.path, |file| &file.path)
    }

    /// Notes that bytes were added to the newest file.
    pub(super) fn grew(&mut self, bytes: u64) {
        if let Some(newest) = self.files.back_mut() {
            newest.size += bytes;
            self.total += bytes;
        }
    }

    /// Size of all files in bytes.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Start of the second file, if there is one.
    pub(super) fn second_began(&self) -> Option<Nanos> {
        self.files.get(1).map(|file| file.began)
    }

    /// Deletes the oldest file unless it is the only one. Returns whether one was deleted.
    pub(super) fn delete_oldest(&mut self) -> io::Result<bool> {
        if self.files.len() < 2 {
            return Ok(false);
        }
        let Some(oldest) = self.files.front() else {
            return Ok(false);
        };
        match fs::remove_file(&oldest.path) {
            // Another program has deleted it.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => result?,
        }
        self.total -= oldest.size;
        self.files.pop_front();
        Ok(true)
    }
}

/// A flight recorder's files in a directory with their starts, oldest first.
pub(crate) fn files_in(path: &Path) -> io::Result<Vec<(Nanos, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if let Some(began) = entry.file_name().to_str().and_then(began)
            && entry.file_type()?.is_file()
        {
            files.push((began, entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

/// `synfin-20261123T145300.250Z.rec`: sorts by time.
fn name(began: Nanos) -> String {
    let date = humantime::format_rfc3339_millis(date(began)).to_string();
    format!("{PREFIX}{}{SUFFIX}", date.replace(['-', ':'], ""))
}

/// The time in such a name; `None` for other names.
fn began(file: &str) -> Option<Nanos> {
    let text = file.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let (date, time) = text.split_once('T')?;
    let (year, month, day) = (date.get(..4)?, date.get(4..6)?, date.get(6..)?);
    let (hour, minute, rest) = (time.get(..2)?, time.get(2..4)?, time.get(4..)?);
    let date = format!("{year}-{month}-{day}T{hour}:{minute}:{rest}");
    let began = humantime::parse_rfc3339(&date).ok()?.duration_since(UNIX_EPOCH).ok()?;
    let began = u64::try_from(began.as_nanos()).ok()?;
    (name(began) == file).then_some(began)
}

fn date(since_1970: Nanos) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(since_1970)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_recordings_have_a_time() {
        let file = "synfin-20261123T145300.250Z.rec";
        let start = began(file).unwrap();
        assert_eq!(name(start), file);
        assert!(name(start + MILLISECOND).as_str() > file);
        for other in [
            "synfin-20261123T145300.250Z.rec.gz",
            "synfin-20261123T145300.25Z.rec",
            "synfin-20261323T145300.250Z.rec",
            "synfin-2026-11-23T145300.250Z.rec",
            "synfin-.rec",
            "synfin-é0261123T145300.250Z.rec",
            "outage.rec",
        ] {
            assert_eq!(began(other), None, "{other}");
        }
    }

    #[test]
    fn files_may_begin_at_the_same_time_but_only_one_process_records() {
        let outside = tempfile::tempdir().unwrap();
        let path = outside.path().join("flight");
        let mut directory = Directory::open(&path).unwrap();
        for _ in 0..3 {
            directory.begin(5 * MILLISECOND).unwrap();
        }
        assert_eq!(Directory::open(&path).err().unwrap().kind(), ErrorKind::ResourceBusy);
        drop(directory);
        let mut directory = Directory::open(&path).unwrap();
        assert!(directory.newest().ends_with("synfin-19700101T000000.007Z.rec"));
        assert!(directory.delete_oldest().unwrap() && directory.delete_oldest().unwrap());
        assert!(!directory.delete_oldest().unwrap(), "the newest stays");
    }
}
