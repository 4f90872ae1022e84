//! `diagnose`: problems of the TCP traffic.

use std::io::{self, Write};

use crate::{
    analysis::diagnose::diagnosis::Diagnosis, cli::Form, host::services::Services,
    output::consumer::Consumer, trace::session::Session, tracker::Tracker,
};

/// Writes the findings at the end of the trace.
pub(crate) struct Diagnose<W> {
    out: W,
    form: Form,
    /// Service names to print with port numbers; empty: numbers only.
    services: Services,
    session: Session,
}

impl<W: Write> Diagnose<W> {
    pub(crate) fn new(out: W, form: Form, services: Services) -> Self {
        Self { out, form, services, session: Session::default() }
    }
}

impl<W: Write> Consumer for Diagnose<W> {
    fn begin(&mut self, session: &Session) {
        self.session = session.clone();
    }

    fn end(&mut self, tracker: &mut Tracker) -> io::Result<()> {
        let diagnosis = Diagnosis::new(&self.session, tracker.take_snapshot());
        match self.form {
            Form::Text => diagnosis.write_text(&self.services, &mut self.out)?,
            Form::Json => diagnosis.write_json(&mut self.out)?,
        }
        self.out.flush()
    }
}
