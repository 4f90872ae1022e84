//! A problem in one row, with all that is known about it.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    Rule, Severity,
    case::{Capture, Evidence, Look, Since},
    next_step::{NextStep, Place, Traffic},
};
use crate::{
    tcp::{close_reason::CloseReason, group_by::By, role::Role},
    trace::{
        ids::{HOST_NETNS, NetnsId, NetnsInode},
        session::Session,
        time::{ClockAnchor, date},
    },
    tracker::{Common, Label, RowName, RowSnapshot},
};

/// A problem in one row.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The rule that found it.
    pub rule: &'static Rule,
    /// How urgent it is: as the rule, or as what it causes.
    pub severity: Severity,
    /// A title of a few words.
    pub title: &'static str,
    /// The side that this host is.
    pub role: Role,
    /// The service port; `None` if the row covers several.
    pub port: Option<u16>,
    /// The address that clients connect to; `None` for servers.
    pub remote: Option<IpAddr>,
    /// The process to look at, or `×N` for N different ones; `None` if unknown.
    pub owner: Option<String>,
    /// Its id; `None` if unknown.
    pub pid: Option<u32>,
    /// The container in which it runs; `None` if in none, in several, or unknown.
    pub container: Option<String>,
    /// The container's Kubernetes pod.
    pub pod: Option<String>,
    /// The inode number of the network namespace; `None` if there are several.
    pub netns: Option<NetnsInode>,
    /// The name of the network namespace.
    pub netns_name: Option<String>,
    /// Number of connections or segments that have the problem.
    pub count: u64,
    /// The observation, with its numbers.
    pub seen: String,
    /// What it causes in other rows of this host, or in the same one.
    pub affects: Vec<String>,
    /// What to check or change.
    pub advice: String,
    /// The commands that show more.
    pub next_step: NextStep,
    /// Close reasons of the connections, if they have ended.
    pub reasons: Vec<CloseReason>,
    /// Close reasons that it, or what it causes, explains, with their rows.
    explained: Vec<(RowName, CloseReason)>,
    look: Look,
    capture: Capture,
    /// The owners of the row.
    owners: BTreeSet<Label>,
    /// Number of connections of the row that failed or ended abnormally, for the order.
    pub(super) bad: u64,
    /// Local addresses of the row's connections.
    pub(super) addresses: BTreeSet<IpAddr>,
    netns_id: Option<NetnsId>,
    /// The consequences.
    pub matters: &'static str,
    since: Since,
    clock: ClockAnchor,
}

impl Finding {
    pub(super) fn new(
        rule: &'static Rule,
        evidence: Evidence,
        row: &RowSnapshot,
        session: &Session,
    ) -> Self {
        let identity = &row.identity;
        let text = |common: &Common<std::sync::Arc<str>>| common.one().map(ToString::to_string);
        let culprit = evidence.culprit.as_deref();
        let (title, matters) = evidence.about.unwrap_or((rule.title, rule.matters));
        let owner = match (&identity.owner, culprit) {
            (_, Some(owner)) => Some(owner.label.name.to_string()),
            (Common::Unknown, None) => None,
            (Common::One(name), None) => Some(name.to_string()),
            (Common::Several(count), None) => Some(format!("×{count}")),
        };
        let mut finding = Self {
            rule,
            severity: evidence.severity.unwrap_or(rule.severity),
            title,
            role: identity.role,
            port: identity.port.one().copied(),
            remote: identity.remote.one().copied(),
            owner,
            pid: match culprit {
                Some(owner) => owner.pid,
                None => identity.pid.one().copied(),
            },
            container: text(&identity.container),
            pod: text(&identity.pod),
            netns: identity.netns.one().copied(),
            netns_name: text(&identity.netns_name),
            count: evidence.count,
            seen: evidence.seen,
            affects: Vec::new(),
            advice: evidence.advice,
            next_step: NextStep::default(),
            explained: rule
                .explains
                .iter()
                .chain(&evidence.reasons)
                .map(|&reason| (identity.name.clone(), reason))
                .collect(),
            look: evidence.look,
            capture: evidence.capture,
            owners: identity.owners.clone(),
            reasons: evidence.reasons,
            bad: row.bad(),
            addresses: evidence.addresses.unwrap_or_else(|| identity.addresses.clone()),
            netns_id: identity.name.netns,
            matters,
            since: evidence.since,
            clock: session.clock,
        };
        finding.choose_next_step();
        finding
    }

    fn choose_next_step(&mut self) {
        let place = Place {
            role: self.role,
            port: self.port,
            remote: self.remote,
            netns: self.netns,
            netns_name: self.netns_name.as_deref(),
            pid: self.pid,
            reasons: &self.reasons,
        };
        self.next_step = NextStep::of(&place, self.look, self.capture);
    }

    /// Whether it, or what it causes, is about connections of this row that ended for this reason.
    pub(crate) fn explains(&self, row: &RowName, reason: CloseReason) -> bool {
        self.explained.iter().any(|(explained, it)| {
            *it == reason
                && (explained.role, explained.port, explained.netns)
                    == (row.role, row.port, row.netns)
                && (explained.remote == row.remote || explained.remote.is_none())
        })
    }

    /// The row, for people: `server :443 https (nginx)`, `clients of 10.0.0.5:5432 (app)`.
    pub fn place(&self, service: Option<&str>) -> String {
        let port =
            self.port.map_or_else(|| "of several ports".to_owned(), |port| format!(":{port}"));
        let port = service.map_or_else(|| port.clone(), |service| format!("{port} {service}"));
        let place = match (self.role, self.remote) {
            (Role::Server, _) => format!("server {port}"),
            (Role::Client, Some(IpAddr::V6(remote))) => format!("clients of [{remote}]{port}"),
            (Role::Client, Some(remote)) => format!("clients of {remote}{port}"),
            (Role::Client, None) => format!("clients {port}"),
            (Role::Unknown, _) => "connections of unknown role".to_owned(),
        };
        let place = match (&self.owner, self.pid) {
            (Some(owner), Some(pid)) => format!("{place} ({owner}, process {pid})"),
            (Some(owner), None) => format!("{place} ({owner})"),
            (None, _) => place,
        };
        match &self.netns_name {
            Some(name) if name != HOST_NETNS => format!("{place} in {name}"),
            _ => place,
        }
    }

    /// Its severity, row and title: `critical server :443 (nginx): nobody accepts connections`.
    pub fn headline(&self, service: Option<&str>) -> String {
        format!("{} {}: {}", self.severity.name(), self.place(service), self.title)
    }

    /// The same, about this traffic.
    pub(crate) fn of_traffic(self, traffic: &Traffic<'_>) -> Self {
        Self { next_step: self.next_step.of_traffic(traffic), ..self }
    }

    /// Number of connections of the row that failed or ended abnormally.
    pub fn bad(&self) -> u64 {
        self.bad
    }

    /// The labels and texts of its paragraph.
    pub(crate) fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("seen", self.seen.clone())];
        fields.extend(self.since().map(|date| {
            let or_before = if self.is_since_a_bound() { " or before" } else { "" };
            ("since", format!("{date}{or_before}"))
        }));
        fields.extend(self.affects.iter().map(|what| ("affects", what.clone())));
        fields.push(("matters", self.matters.to_owned()));
        fields.push(("to do", self.advice.clone()));
        fields
    }

    /// Whether it is about a part of this row, of rows that are grouped so.
    pub(crate) fn is_in(&self, row: &RowName, by: By) -> bool {
        row.role == self.role
            && match by {
                By::Port => row.port == self.port,
                By::Remote => (row.port, row.remote) == (self.port, self.remote),
                By::Netns => row.netns == self.netns_id,
                By::Owner => match &row.owner {
                    Some(Common::One(label)) => self.owners.contains(label),
                    _ => false,
                },
            }
    }

    /// Whether it may have begun before [`Self::since`].
    pub fn is_since_a_bound(&self) -> bool {
        matches!(self.since, Since::Before(_))
    }

    /// When it began, or the earliest known time after that, as a date; `None` if unknown.
    pub fn since(&self) -> Option<String> {
        let (Since::At(time) | Since::Before(time)) = self.since else { return None };
        Some(date(self.clock.date(time)))
    }

    /// Takes a finding that this one causes.
    pub(super) fn join(&mut self, effect: Self) {
        self.affects.push(format!("{}: {}: {}", effect.place(None), effect.title, effect.seen));
        self.affects.extend(effect.affects);
        self.explained.extend(effect.explained);
        self.bad = self.bad.max(effect.bad);
        self.severity = self.severity.max(effect.severity);
    }

    /// Adds the same of another row.
    pub(super) fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.bad = self.bad.saturating_add(other.bad);
        self.severity = self.severity.max(other.severity);
        self.affects.extend(other.affects);
        self.explained.extend(other.explained);
        if self.pid != other.pid {
            self.pid = None;
        }
    }

    /// The same for all ports and destinations.
    pub(super) fn cover_all(mut self) -> Self {
        (self.port, self.remote) = (None, None);
        self.choose_next_step();
        self
    }
}
