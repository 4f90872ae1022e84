//! `diagnose`: problems of the TCP traffic, with advice.

use std::{io::Write, sync::Arc, time::Duration};

use anyhow::Result;

use crate::{
    analysis::diagnose::diagnosis::Diagnosis,
    cli::{commands::DiagnoseArgs, output::Form},
    host::services::Services,
    message::exit::Exit,
    output::{consumer::Consumer, stdout},
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
    let run = Run::open(source, verbose)?.with_command(args.run);
    let mut output = Diagnose::new(stdout(), args.output.form, args.numeric.services());
    run.go(RunMode::UntilSignal, &mut output).await?;
    Ok(Exit::Done)
}

/// Writes the findings at the end of the trace.
pub(crate) struct Diagnose<W> {
    out: W,
    form: Form,
    /// Service names to print with port numbers; empty: numbers only.
    services: Services,
    session: Arc<Session>,
}

impl<W: Write> Diagnose<W> {
    pub(crate) fn new(out: W, form: Form, services: Services) -> Self {
        Self { out, form, services, session: Arc::default() }
    }
}

impl<W: Write> Consumer for Diagnose<W> {
    fn begin(&mut self, session: &Arc<Session>) {
        self.session = session.clone();
    }

    fn end(&mut self, tracker: &mut Tracker) -> Result<()> {
        let diagnosis = Diagnosis::new(&self.session, tracker.take_snapshot());
        match self.form {
            Form::Text => diagnosis.write_text(&self.services, &mut self.out)?,
            Form::Json => diagnosis.write_json(&mut self.out)?,
        }
        Ok(self.out.flush()?)
    }
}
