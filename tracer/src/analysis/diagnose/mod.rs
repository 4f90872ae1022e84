//! What is wrong with the traffic, and what to do about it: findings over the books of an interval.
//! Pure: they follow from the tracker's values alone.

pub mod diagnosis;
pub(crate) mod rules;
pub mod thresholds;

use std::{collections::BTreeMap, net::IpAddr};

pub use rules::RULES;

use crate::{
    output::{
        column::{Column, Value, Visibility::Data, columns},
        port_columns::PortRow,
    },
    tcp::{group_by::By, labels::Enumeration, role::Role},
    trace::{
        session::Session,
        time::{ClockAnchor, Nanos, date},
    },
    tracker::{Common, Snapshot},
};

/// Something that is looked for.
pub struct Rule {
    /// Its public name.
    pub id: &'static str,
    /// What it is, in a few words.
    pub title: &'static str,
    /// From where on it is one, in words.
    pub when: &'static str,
    /// What comes of it.
    pub matters: &'static str,
    /// Looks for it.
    pub(crate) look: fn(&Case<'_>) -> Option<Evidence>,
}

/// A row that is looked at, and what holds for all of its host.
pub(crate) struct Case<'a> {
    pub(crate) row: &'a PortRow,
    /// Settings of the system.
    pub(crate) sysctls: &'a BTreeMap<String, String>,
}

/// What was found there.
pub(crate) struct Evidence {
    /// What is so, with its figures.
    pub(crate) what: String,
    /// Since when at least; `None`: within the interval.
    pub(crate) since: Option<Nanos>,
    /// What to do.
    pub(crate) knob: String,
}

/// Something that is wrong.
#[derive(Clone)]
pub struct Finding {
    /// What it is.
    pub rule: &'static Rule,
    /// Where: on which side, on which port.
    pub role: Role,
    /// The service port; `None` if the row has none of its own.
    pub port: Option<u16>,
    /// The address that clients connect to.
    pub remote: Option<IpAddr>,
    /// Whose: a process, or how many.
    pub owner: Option<String>,
    /// What was seen.
    pub seen: String,
    /// Since when at least.
    pub since: Nanos,
    /// What to do about it.
    pub advice: String,
    clock: ClockAnchor,
    /// How many connections of the row went wrong: the worst come first.
    bad: u64,
}

/// Looks for everything, in every row of the interval.
pub fn diagnose(session: &Session, snapshot: &Snapshot) -> Vec<Finding> {
    let clock = session.clock;
    let mut findings = Vec::new();
    for row in PortRow::all(session, snapshot, By::Remote) {
        let case = Case { row: &row, sysctls: &session.sysctls };
        let found = RULES.iter().filter_map(|rule| Some((rule, (rule.look)(&case)?)));
        findings.extend(found.map(|(rule, seen)| Finding {
            rule,
            role: row.row.identity.role,
            port: one(&row.row.identity.port).copied(),
            remote: one(&row.row.identity.remote).copied(),
            owner: match &row.row.identity.owner {
                Common::Unknown => None,
                Common::One(name) => Some(name.to_string()),
                Common::Several(count) => Some(format!("×{count}")),
            },
            seen: seen.what,
            since: seen.since.unwrap_or(snapshot.start),
            advice: seen.knob,
            clock,
            bad: row.bad(),
        }));
    }
    // In the order of the rows among equals, so that what stays keeps its place.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.bad));
    findings
}

fn one<T>(common: &Common<T>) -> Option<&T> {
    match common {
        Common::One(value) => Some(value),
        Common::Unknown | Common::Several(_) => None,
    }
}

impl Finding {
    /// Where it is, for the eyes: `server :443 https (nginx)`, `clients of 10.0.0.5:5432 (app)`.
    pub fn place(&self, service: Option<&str>) -> String {
        let port = self.port.map_or_else(|| "of other ports".to_owned(), |port| format!(":{port}"));
        let port = service.map_or_else(|| port.clone(), |service| format!("{port} {service}"));
        let place = match (self.role, self.remote) {
            (Role::Server, _) => format!("server {port}"),
            (Role::Client, Some(IpAddr::V6(remote))) => format!("clients of [{remote}]{port}"),
            (Role::Client, Some(remote)) => format!("clients of {remote}{port}"),
            (Role::Client, None) => format!("clients {port}"),
        };
        match &self.owner {
            Some(owner) => format!("{place} ({owner})"),
            None => place,
        }
    }

    /// What is said about it, each under its label.
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

/// All figures of a finding.
pub const FINDING_COLUMNS: &[Column<Finding>] = columns! {
    "id" "" Word(IDS), Data, "What it is: one of those in docs/findings.md.", |f| Value::Word(f.rule.id);
    "title" "" Text, Data, "The same in words.", |f| Value::Text(f.rule.title.to_owned());
    "role" "" Word(Role::WORDS), Data, "On which side: server or client.", |f| Value::Word(f.role.name());
    "port" "" Number or null, Data, "The service port; null if it is about several.", |f| Value::known(f.port, |port| Value::Int(port.into()));
    "remote" "" Address or null, Data, "The address that clients connect to; null for servers.", |f| Value::known(f.remote, |ip| Value::Text(ip.to_string()));
    "owner" "" Text or null, Data, "The process; ×N if there are N of different names.", |f| Value::known(f.owner.clone(), Value::Text);
    "seen" "" Text, Data, "What was seen, with its figures.", |f| Value::Text(f.seen.clone());
    "since" "" Time, Data, "Since when at least.", |f| Value::Text(date(f.clock.date(f.since)));
    "matters" "" Text, Data, "What comes of it.", |f| Value::Text(f.rule.matters.to_owned());
    "knob" "" Text, Data, "What to do about it.", |f| Value::Text(f.advice.clone());
};
