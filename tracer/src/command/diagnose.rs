//! `diagnose`: problems of the TCP traffic, with advice.

use std::{io::Write, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;

use crate::{
    analysis::diagnosis::Diagnosis,
    cli::{commands::DiagnoseArgs, output::Form},
    findings::Severity,
    host::services::Services,
    message::{exit::Exit, stderr::warn},
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
    let from = source.from.clone();
    let run = Run::open(source, verbose)?.with_command(args.run);
    let output = Diagnose::new(stdout(), args.output.form, args.numeric.services());
    let mut output = Diagnose { from, ..output };
    let of_command = run.go(RunMode::UntilSignal, &mut output).await?;
    let Some(least) = args.fail_on else { return Ok(of_command) };
    if output.worst.is_some_and(|worst| worst >= least) {
        return Ok(Exit::Violated);
    }
    let exit = match output.unreliable {
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
    /// Severity of the most urgent finding.
    worst: Option<Severity>,
    /// Why the absence of findings means nothing; `None` if it does.
    unreliable: Option<String>,
    /// The recording that is read.
    from: Option<PathBuf>,
}

impl<W: Write> Diagnose<W> {
    pub(crate) fn new(out: W, form: Form, services: Services) -> Self {
        Self {
            out,
            form,
            services,
            session: Arc::default(),
            worst: None,
            unreliable: None,
            from: None,
        }
    }
}

impl<W: Write> Consumer for Diagnose<W> {
    fn begin(&mut self, session: &Arc<Session>) {
        self.session = session.clone();
    }

    fn end(&mut self, tracker: &mut Tracker) -> Result<()> {
        let diagnosis =
            Diagnosis::new(&self.session, tracker.take_snapshot(), self.from.as_deref());
        (self.worst, self.unreliable) = (diagnosis.worst(), diagnosis.unreliable());
        match self.form {
            Form::Text => diagnosis.write_text(&self.services, &mut self.out)?,
            Form::Json => diagnosis.write_json(&mut self.out)?,
        }
        Ok(self.out.flush()?)
    }
}
