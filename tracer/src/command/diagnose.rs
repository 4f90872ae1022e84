//! `diagnose`: what is wrong with the traffic.

use std::io::{self, Write};

use super::Output;
use crate::{
    analysis::diagnose::diagnosis::Diagnosis, cli::Form, host::services::Services,
    trace::session::Session, tracker::Tracker,
};

/// Watches, then says what it found.
pub(crate) struct Diagnose<W> {
    out: W,
    form: Form,
    /// Ports are told by their services' names as well.
    services: Services,
    session: Session,
}

impl<W: Write> Diagnose<W> {
    pub(crate) fn new(out: W, form: Form, services: Services) -> Self {
        Self { out, form, services, session: Session::default() }
    }
}

impl<W: Write> Output for Diagnose<W> {
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
