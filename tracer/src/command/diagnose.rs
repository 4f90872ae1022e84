//! `diagnose`: problems of the TCP traffic, with advice.

use std::{ffi::OsString, io::Write, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;

use crate::{
    analysis::diagnosis::Diagnosis,
    cli::{commands::DiagnoseArgs, output::Form},
    findings::Traffic,
    host::services::Services,
    message::{exit::Exit, stderr::warn},
    output::consumer::Consumer,
    run::{Run, RunMode},
    trace::session::Session,
    tracker::Tracker,
};

/// How long `diagnose` traces if neither a duration nor a command is given.
const DURATION: Duration = Duration::from_secs(10);

pub(crate) async fn run(args: DiagnoseArgs, verbose: u8) -> Result<Exit> {
    let mut source = args.source;
    if source.from.is_none() && args.run.command.is_empty() {
        source.live.duration.get_or_insert(DURATION);
    }
    let recording = source.from.clone().or_else(|| source.record.clone());
    let command = args.run.command.clone();
    let stdout = source.stdout()?;
    let run = Run::open(source, verbose)?.with_command(args.run);
    let output = Diagnose::new(stdout, args.output.form, args.numeric.services());
    let mut output = Diagnose { recording, command, ..output };
    let of_command = run.go(RunMode::UntilSignal, &mut output).await?;
    let (Some(least), Some(diagnosis)) = (args.fail_on, output.diagnosis) else {
        return Ok(of_command);
    };
    if let Some(urgent) = diagnosis.at_least(least) {
        warn(&format!("--fail-on {}: {urgent}", least.name()));
        return Ok(Exit::Violated);
    }
    let exit = match diagnosis.unreliable() {
        Some(why) => {
            warn(&format!("inconclusive: {why}"));
            Exit::Inconclusive
        }
        None => Exit::Done,
    };
    Ok(exit.or_of_command(of_command))
}

/// Writes the findings at the end of the trace.
pub(crate) struct Diagnose<W> {
    out: W,
    form: Form,
    /// Service names to print with port numbers; empty: numbers only.
    services: Services,
    session: Arc<Session>,
    /// The recording that is read or written.
    recording: Option<PathBuf>,
    /// The command that is run: a program and its arguments, or nothing.
    command: Vec<OsString>,
    /// `None` until the trace has ended.
    diagnosis: Option<Diagnosis>,
}

impl<W: Write> Diagnose<W> {
    pub(crate) fn new(out: W, form: Form, services: Services) -> Self {
        let (session, recording, command, diagnosis) = Default::default();
        Self { out, form, services, session, recording, command, diagnosis }
    }
}

impl<W: Write> Consumer for Diagnose<W> {
    fn begin(&mut self, session: &Arc<Session>) {
        self.session = session.clone();
    }

    fn end(&mut self, tracker: &mut Tracker) -> Result<()> {
        let traffic = match (&self.recording, &self.command[..]) {
            (Some(path), _) => Traffic::Recording(path),
            (None, []) => Traffic::Live,
            (None, command) => Traffic::OfCommand(command),
        };
        let diagnosis = Diagnosis::new(&self.session, tracker.take_snapshot(), &traffic);
        match self.form {
            Form::Text => diagnosis.write_text(&self.services, &mut self.out)?,
            Form::Json => diagnosis.write_json(&mut self.out)?,
        }
        self.diagnosis = Some(diagnosis);
        Ok(self.out.flush()?)
    }
}
