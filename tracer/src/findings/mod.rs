//! Findings: problems in the traffic of an interval, each with its evidence and advice. They follow
//! from the tracker's values alone. A new finding begins in `rules.rs`.

mod accept_queue;
mod addresses;
mod both_ends;
mod by_port;
mod case;
mod connect;
mod ends;
mod ephemeral_ports;
mod finding;
mod listener;
mod many;
mod next_step;
pub mod rules;
mod syn_queue;
pub mod thresholds;

use std::{cmp::Reverse, collections::BTreeSet};

pub(crate) use case::list;
pub use finding::Finding;
pub use next_step::NextStep;
pub(crate) use next_step::Traffic;
pub use rules::RULES;

use self::{
    both_ends::Places,
    by_port::ByPort,
    case::{Case, Evidence},
};
use crate::{
    tcp::{close_reason::CloseReason, group_by::By, labels::Enumeration},
    trace::session::Session,
    tracker::{RowName, RowSnapshot, Snapshot},
};

/// How urgent a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something looks like trouble, but often is intended.
    Notice,
    /// Connections are slow, are lost now and then, or will fail if this goes on.
    Warning,
    /// Connections fail or are lost.
    Critical,
}

impl Severity {
    /// All severities, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Critical, Self::Warning, Self::Notice];

    /// The names of all severities.
    pub const NAMES: Enumeration =
        Enumeration { name: "severity", all: || Self::ALL.map(Self::name).into() };

    /// The name in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A problem that `diagnose` checks for.
#[derive(Debug)]
pub struct Rule {
    /// The public name; never changes.
    pub id: &'static str,
    /// How urgent it is.
    pub severity: Severity,
    /// A title of a few words.
    pub title: &'static str,
    /// The condition, in words.
    pub when: &'static str,
    /// The consequences.
    pub matters: &'static str,
    /// The close reasons that it explains: no other finding of the row is about them.
    pub explains: &'static [CloseReason],
    /// Returns the evidence if the row has this problem.
    pub(crate) check: fn(&Case<'_>) -> Option<Evidence>,
}

/// Checks all rules in every row of the interval. The most urgent findings come first; what another one
/// causes is part of that.
pub fn diagnose(session: &Session, snapshot: &Snapshot) -> Vec<Finding> {
    RowFindings::of(session, snapshot).joined()
}

/// The findings of each row by itself.
#[derive(Clone, Default)]
pub(crate) struct RowFindings {
    findings: Vec<Finding>,
    places: Places,
}

impl RowFindings {
    /// Checks all rules in every row of the interval.
    pub(crate) fn of(session: &Session, snapshot: &Snapshot) -> Self {
        let rows = snapshot.rows_by_place();
        Self { findings: of(&rows, session, snapshot), places: Places::of(&rows) }
    }

    /// The findings of a row, of rows that are grouped so.
    pub(crate) fn in_row(&self, row: &RowName, by: By) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.is_in(row, by))
    }

    /// The findings as [`diagnose`] returns them.
    pub(crate) fn joined(self) -> Vec<Finding> {
        let mut findings = many::summarize(both_ends::join(self.findings, &self.places));
        // The sort is stable: equal findings stay in the order of their rules' ids, then of their rows.
        findings.sort_by_key(|finding| (Reverse(finding.severity), Reverse(finding.bad)));
        findings
    }
}

fn of(rows: &[RowSnapshot], session: &Session, snapshot: &Snapshot) -> Vec<Finding> {
    let (mut findings, mut quiet) = (Vec::new(), BTreeSet::new());
    let by_port = ByPort::of(rows);
    let check =
        |row: &RowSnapshot| of_row(&Case::new(row, &by_port, snapshot, &session.sysctls), session);
    for row in rows {
        let found = check(row);
        if found.is_empty() && row.identity.name.remote.is_some() {
            quiet.insert(&row.identity.name);
        }
        findings.extend(found);
    }
    // What is rare toward each destination can be a pattern toward all of them.
    let together = snapshot.rows_of_all_destinations(|place| quiet.contains(place));
    findings.extend(together.iter().flat_map(check));
    findings
}

fn of_row(case: &Case<'_>, session: &Session) -> Vec<Finding> {
    let found = RULES.iter().filter_map(|rule| Some((rule, (rule.check)(case)?)));
    let mut found: Vec<_> = found.collect();
    let explained: Vec<_> = found.iter().flat_map(|(rule, _)| rule.explains).copied().collect();
    let others = ends::of_other_reasons(case, &explained);
    found.extend(others.into_iter().map(|evidence| (&rules::ENDED_ABNORMALLY, evidence)));
    let finding = |(rule, evidence)| Finding::new(rule, evidence, case.row, session);
    found.into_iter().map(finding).collect()
}
