//! `record`: the file is written by the loop; this only says what became of it.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, BufWriter},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::Output;
use crate::{
    failure::Failure,
    message::say,
    recording::Recorder,
    tracker::{Observer, Tracker},
};

/// Says how much was recorded.
pub(crate) struct Record {
    file: PathBuf,
}

impl Record {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file }
    }
}

impl Observer for Record {}

impl Output for Record {
    fn end(&mut self, tracker: &mut Tracker) -> io::Result<()> {
        let events = tracker.events();
        say(&format!(
            "recorded {} events to {} ({} lost, {} missed)",
            events.delivered,
            self.file.display(),
            events.lost,
            events.missed,
        ));
        Ok(())
    }
}

/// A recording tells who talked to whom: it is for its owner's eyes, even if the file was there.
pub(crate) fn record_to(path: &Path) -> Result<Recorder<BufWriter<File>>, Failure> {
    let open = || {
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        if file.metadata()?.is_file() {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Recorder::new(BufWriter::with_capacity(1 << 20, file))
    };
    open().map_err(|error| Failure::unwritable(path, &error))
}
