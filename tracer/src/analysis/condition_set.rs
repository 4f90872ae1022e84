//! All `--fail-on` conditions of a run, and the exit status that follows from them.

use std::sync::Arc;

use super::{
    condition::{Condition, Outcome},
    reliability::{MissingRecords, NO_CONNECTION},
};
use crate::{message::exit::Exit, trace::session::Session, tracker::Snapshot};

/// All conditions and their results so far.
#[derive(Debug, Default)]
pub(crate) struct ConditionSet {
    conditions: Vec<Condition>,
    /// Whether each condition has had a known value.
    known: Vec<bool>,
    violated: bool,
    /// Whether any report had traffic.
    traffic: bool,
    missing: MissingRecords,
}

impl ConditionSet {
    pub(crate) fn new(conditions: Vec<Condition>) -> Self {
        let known = vec![false; conditions.len()];
        Self { conditions, known, ..Self::default() }
    }

    /// Evaluates all conditions in a report. Returns a message for each that is true.
    pub(crate) fn evaluate(&mut self, session: &Arc<Session>, snapshot: &Snapshot) -> Vec<String> {
        if self.conditions.is_empty() {
            return Vec::new();
        }
        self.missing.add(MissingRecords::of(&snapshot.events));
        self.traffic |= snapshot.has_traffic();
        let mut messages = Vec::new();
        for (condition, known) in self.conditions.iter().zip(&mut self.known) {
            let outcome = condition.evaluate(session, snapshot);
            *known |= outcome != Outcome::Unknown;
            if let Outcome::True { value, rows } = outcome {
                let rows = if rows.is_empty() { rows } else { format!(": {rows}") };
                messages.push(format!("--fail-on '{condition}': the value is {value}{rows}"));
                self.violated = true;
            }
        }
        messages
    }

    /// The exit status, and the explanation if the result is inconclusive.
    pub(crate) fn end(&self) -> (Exit, Option<String>) {
        let inconclusive = |why: String| (Exit::Inconclusive, Some(format!("inconclusive: {why}")));
        let unknown = self.conditions.iter().zip(&self.known).find(|(_, known)| !**known);
        if self.conditions.is_empty() {
            (Exit::Done, None)
        } else if self.violated {
            (Exit::Violated, None)
        } else if let Some(doubt) = self.missing.doubt() {
            inconclusive(doubt)
        } else if !self.traffic {
            inconclusive(NO_CONNECTION.to_owned())
        } else if let Some((condition, _)) = unknown {
            inconclusive(format!(
                "the value of '{condition}' is unknown: {}",
                if condition.is_about_a_rate() {
                    "no interval was long enough for rates, or nothing happened that it measures"
                } else {
                    "nothing happened that it measures"
                }
            ))
        } else {
            (Exit::Done, None)
        }
    }
}
