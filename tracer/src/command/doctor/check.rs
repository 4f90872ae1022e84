//! A check of `doctor`, and its output.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::message::escape::escape_control;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// The feature works.
    Ok,
    /// The feature is missing or limited, but synfin works without it.
    Note,
    /// The feature is required and does not work.
    Missing,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Missing => "missing",
        }
    }
}

/// A check with its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) id: String,
    pub(super) status: Status,
    /// The state of the feature on this host.
    pub(super) text: String,
    /// What synfin cannot do because of it; `None`: nothing.
    impact: Option<String>,
    remedy: Option<String>,
}

impl Check {
    fn new(id: impl Into<String>, status: Status, text: impl Into<String>) -> Self {
        Self { id: id.into(), status, text: text.into(), impact: None, remedy: None }
    }

    pub(super) fn ok(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(id, Status::Ok, text)
    }

    pub(super) fn note(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(id, Status::Note, text)
    }

    pub(super) fn missing(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(id, Status::Missing, text)
    }

    pub(super) fn impact(self, impact: impl Into<String>) -> Self {
        Self { impact: Some(impact.into()), ..self }
    }

    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// Writes one line, with control characters escaped because parts of it may be untrusted.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { id, status, text, impact, remedy } = self;
        let mut line = format!("{:<7} {id:<24} {text}", status.name());
        for (word, part) in [("impact", impact), ("remedy", remedy)] {
            if let Some(part) = part {
                line += &format!("; {word}: {part}");
            }
        }
        writeln!(out, "{}", escape_control(&line))
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "status": self.status.name(),
            "text": self.text,
            "without": self.impact,
            "remedy": self.remedy,
        })
    }
}
