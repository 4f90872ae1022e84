//! Findings: problems in the traffic of an interval, each with its evidence and advice. They follow
//! from the tracker's values alone.

pub mod diagnosis;
mod ephemeral_ports;
pub(crate) mod rules;
mod syn_queue;
pub mod thresholds;

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

pub use rules::RULES;

use crate::{
    output::{
        column::{Column, Value, Visibility::Data, columns},
        port_row::PortRow,
    },
    tcp::{group_by::By, labels::Enumeration, role::Role},
    trace::{
        session::Session,
        time::{ClockAnchor, Nanos, date},
    },
    tracker::{Common, Snapshot},
};

/// A problem that `diagnose` checks for.
pub struct Rule {
    /// The public name; never changes.
    pub id: &'static str,
    /// A title of a few words.
    pub title: &'static str,
    /// The condition, in words.
    pub when: &'static str,
    /// The consequences.
    pub matters: &'static str,
    /// Returns the evidence if the row has this problem.
    pub(crate) check: fn(&Case<'_>) -> Option<Evidence>,
}

/// A row and the settings of its host.
pub(crate) struct Case<'a> {
    pub(crate) row: &'a PortRow,
    /// Values of sysctls in the host's namespace, by name.
    pub(crate) sysctls: &'a BTreeMap<String, String>,
}

/// The evidence for a finding.
pub(crate) struct Evidence {
    /// The observation, with its numbers.
    pub(crate) seen: String,
    /// When it began, at the latest; `None` if within the interval.
    pub(crate) since: Option<Nanos>,
    /// What to check or change.
    pub(crate) advice: String,
}

/// A problem in one row.
#[derive(Clone)]
pub struct Finding {
    /// The rule that found it.
    pub rule: &'static Rule,
    /// The side that this host is.
    pub role: Role,
    /// The service port; `None` if the row covers several.
    pub port: Option<u16>,
    /// The address that clients connect to; `None` for servers.
    pub remote: Option<IpAddr>,
    /// The owning process, or `×N` for N different ones; `None` if unknown.
    pub owner: Option<String>,
    /// The observation, with its numbers.
    pub seen: String,
    /// When it began, at the latest (CLOCK_MONOTONIC).
    pub since: Nanos,
    /// What to check or change.
    pub advice: String,
    clock: ClockAnchor,
    /// Number of connections of the row that failed or ended abnormally, for the order.
    bad: u64,
}

/// Checks all rules in every row of the interval.
pub fn diagnose(session: &Session, snapshot: &Snapshot) -> Vec<Finding> {
    let clock = session.clock;
    let mut findings = Vec::new();
    for row in PortRow::all(session, snapshot, By::Remote) {
        let case = Case { row: &row, sysctls: &session.sysctls };
        let found = RULES.iter().filter_map(|rule| Some((rule, (rule.check)(&case)?)));
        findings.extend(found.map(|(rule, evidence)| Finding {
            rule,
            role: row.row.identity.role,
            port: one(&row.row.identity.port).copied(),
            remote: one(&row.row.identity.remote).copied(),
            owner: match &row.row.identity.owner {
                Common::Unknown => None,
                Common::One(name) => Some(name.to_string()),
                Common::Several(count) => Some(format!("×{count}")),
            },
            seen: evidence.seen,
            since: evidence.since.unwrap_or(snapshot.start),
            advice: evidence.advice,
            clock,
            bad: row.bad(),
        }));
    }
    // The sort is stable: equal findings stay in the order of their rows.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.bad));
    findings
}

fn percent(part: u64, whole: u64) -> String {
    let pct = pct(part, whole);
    if pct < 10.0 { format!("{pct:.1} %") } else { format!("{pct:.0} %") }
}

/// A duration as text: `12 ms`, `12.3 s` or `4 min`.
fn span(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        1..=119 => format!("{:.1} s", duration.as_secs_f64()),
        seconds => format!("{} min", seconds / 60),
    }
}

/// `part` of `whole` as a percentage.
fn pct(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

fn one<T>(common: &Common<T>) -> Option<&T> {
    match common {
        Common::One(value) => Some(value),
        Common::Unknown | Common::Several(_) => None,
    }
}

impl Finding {
    /// The row, for people: `server :443 https (nginx)`, `clients of 10.0.0.5:5432 (app)`.
    pub fn place(&self, service: Option<&str>) -> String {
        let port = self.port.map_or_else(|| "of other ports".to_owned(), |port| format!(":{port}"));
        let port = service.map_or_else(|| port.clone(), |service| format!("{port} {service}"));
        let place = match (self.role, self.remote) {
            (Role::Server, _) => format!("server {port}"),
            (Role::Client, Some(IpAddr::V6(remote))) => format!("clients of [{remote}]{port}"),
            (Role::Client, Some(remote)) => format!("clients of {remote}{port}"),
            (Role::Client, None) => format!("clients {port}"),
            (Role::Unknown, _) => "connections of unknown role".to_owned(),
        };
        match &self.owner {
            Some(owner) => format!("{place} ({owner})"),
            None => place,
        }
    }

    /// The labels and texts of its paragraph.
    pub(crate) fn fields(&self) -> [(&'static str, String); 4] {
        [
            ("seen", self.seen.clone()),
            ("since", date(self.clock.date(self.since))),
            ("matters", self.rule.matters.to_owned()),
            ("to do", self.advice.clone()),
        ]
    }
}

const IDS: Enumeration =
    Enumeration { name: "finding", all: || RULES.iter().map(|rule| rule.id).collect() };

/// All columns of a finding.
pub const FINDING_COLUMNS: &[Column<Finding>] = columns! {
    "id" "" Word(IDS), Data, "The rule, listed in docs/findings.md.", |f| Value::Word(f.rule.id);
    "title" "" Text, Data, "Title of the rule.", |f| Value::Text(f.rule.title.to_owned());
    "role" "" Word(Role::NAMES), Data, "The side that this host is: server, client or unknown.", |f| Value::role(f.role);
    "port" "" Number or null, Data, "The service port; null if the row covers several.", |f| Value::known(f.port, |port| Value::Int(port.into()));
    "remote" "" Address or null, Data, "The address that clients connect to; null for servers.", |f| Value::known(f.remote, |ip| Value::Text(ip.to_string()));
    "owner" "" Text or null, Data, "The owning process; ×N if there are N with different names.", |f| Value::known(f.owner.clone(), Value::Text);
    "seen" "" Text, Data, "The observation, with its numbers.", |f| Value::Text(f.seen.clone());
    "since" "" Time, Data, "When it began, at the latest.", |f| Value::Text(date(f.clock.date(f.since)));
    "matters" "" Text, Data, "The consequences.", |f| Value::Text(f.rule.matters.to_owned());
    "knob" "" Text, Data, "What to check or change.", |f| Value::Text(f.advice.clone());
};
