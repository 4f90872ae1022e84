//! `record`: reports how many events were recorded. The run loop writes the file.

use std::{io, path::PathBuf};

use crate::{message::stderr::warn, output::consumer::Consumer, tracker::Tracker};

/// Reports on stderr how many events were recorded, lost and missed.
pub(crate) struct Record {
    file: PathBuf,
}

impl Record {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file }
    }
}

impl Consumer for Record {
    fn end(&mut self, tracker: &mut Tracker) -> io::Result<()> {
        let events = tracker.events();
        warn(&format!(
            "recorded {} events to {} ({} lost, {} missed)",
            events.delivered,
            self.file.display(),
            events.lost,
            events.missed,
        ));
        Ok(())
    }
}
