//! `record`: reports how many events were recorded. The run loop writes the file.

use std::path::PathBuf;

use anyhow::Result;

use super::anonymize::anonymizer;
use crate::{
    cli::{host_only::RecordArgs, source::RunArgs},
    message::{exit::Exit, stderr::warn},
    output::consumer::Consumer,
    record::{destination::RecordingSink, owner_only::Existing},
    run::{Run, RunMode},
    tracker::Tracker,
};

pub(crate) async fn run(args: RecordArgs, verbose: u8) -> Result<Exit> {
    let key_file = args.key_file.as_deref();
    let anonymizer = args.anonymize.then(|| anonymizer(key_file)).transpose()?;
    let flight = args.flight();
    let run = Run::live(args.live, &args.filter, verbose)?;
    // Only after attaching, so that a failure to attach creates no file and overwrites none.
    let sink = RecordingSink::open(args.file.clone(), flight, Existing::unless_forced(args.force))?;
    let run = run.recording_to(sink, anonymizer).with_command(RunArgs { command: args.command });
    run.go(RunMode::UntilSignal, &mut Record::new(args.file)).await
}

/// Reports on stderr how many events were recorded, lost and missed.
struct Record {
    file: PathBuf,
}

impl Record {
    fn new(file: PathBuf) -> Self {
        Self { file }
    }
}

impl Consumer for Record {
    fn end(&mut self, tracker: &mut Tracker) -> Result<()> {
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
