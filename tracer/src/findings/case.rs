//! What a rule sees of a row, and what it returns.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use synfin_common::state::TcpState;

use super::{
    Severity,
    by_port::ByPort,
    thresholds::{LEAST, SHARE_PCT},
};
use crate::{
    tcp::{close_reason::CloseReason, role::Role},
    trace::{ids::HOST_NETNS, time::Nanos},
    tracker::{Common, Counters, Owner, RowSnapshot, RowStats, Snapshot},
};

/// A row of an interval, and the settings of its host.
pub(crate) struct Case<'a> {
    pub(super) row: &'a RowSnapshot,
    /// The other rows.
    pub(super) by_port: &'a ByPort<'a>,
    /// The interval (CLOCK_MONOTONIC, nanoseconds).
    pub(super) start: Nanos,
    pub(super) end: Nanos,
    /// Values of sysctls in the host's namespace, by name.
    sysctls: &'a BTreeMap<String, String>,
}

/// The evidence for a finding.
pub(crate) struct Evidence {
    /// The observation, with its numbers.
    pub(super) seen: String,
    /// Number of connections or segments that have the problem.
    pub(super) count: u64,
    pub(super) since: Since,
    /// What to check or change.
    pub(super) advice: String,
    /// The close reasons of the connections, if they have ended.
    pub(super) reasons: Vec<CloseReason>,
    /// What shows more, if no connection has ended.
    pub(super) look: Look,
    /// The segments that show more.
    pub(super) capture: Capture,
    /// The process to look at, if it is not the row's owner.
    pub(super) culprit: Option<Arc<Owner>>,
    /// How urgent it is, if not as the rule says.
    pub(super) severity: Option<Severity>,
    /// What replaces the rule's title and consequences.
    pub(super) about: Option<(&'static str, &'static str)>,
    /// The local addresses of the port that it is about, if not those of the row's connections.
    pub(super) addresses: Option<BTreeSet<IpAddr>>,
}

/// When a problem began (CLOCK_MONOTONIC, nanoseconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// At this time.
    At(Nanos),
    /// At this time or before.
    Before(Nanos),
    Unknown,
}

/// Sockets that show more of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The listeners of the port, and the ports and TIME_WAITs in use.
    Listeners,
    /// What happens on the port from now on.
    Row,
    /// Open connections, in this state if there is one.
    Open(Option<TcpState>),
    /// Connections that end from now on.
    Ending,
}

/// Segments that show more of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capture {
    Nothing,
    /// SYNs, SYN-ACKs and resets.
    Handshakes,
    All,
}

impl Evidence {
    /// Evidence that this many connections or segments are affected.
    pub(super) fn new(count: u64, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        let (seen, advice) = (seen.into(), advice.into());
        Self {
            seen,
            count,
            since: Since::Unknown,
            advice,
            reasons: Vec::new(),
            look: Look::Listeners,
            capture: Capture::Nothing,
            culprit: None,
            severity: None,
            about: None,
            addresses: None,
        }
    }

    pub(super) fn since(self, since: Since) -> Self {
        Self { since, ..self }
    }

    pub(super) fn look_at(self, look: Look) -> Self {
        Self { look, ..self }
    }

    pub(super) fn capture(self, capture: Capture) -> Self {
        Self { capture, ..self }
    }
}

impl<'a> Case<'a> {
    pub(super) fn new(
        row: &'a RowSnapshot,
        by_port: &'a ByPort<'a>,
        snapshot: &Snapshot,
        sysctls: &'a BTreeMap<String, String>,
    ) -> Self {
        Self { row, by_port, start: snapshot.start, end: snapshot.end, sysctls }
    }

    pub(super) fn stats(&self) -> &RowStats {
        &self.row.stats
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.row.stats.counters
    }

    /// Number of connections that ended for one of these reasons.
    pub(super) fn ended(&self, reasons: &[CloseReason]) -> u64 {
        reasons.iter().map(|&reason| self.counters().ended(reason)).sum()
    }

    /// The evidence about connections that ended for these reasons, which `connections` lists: it began
    /// with the first of them.
    pub(super) fn of_ends(
        &self,
        reasons: &[CloseReason],
        seen: impl Into<String>,
        advice: impl Into<String>,
    ) -> Evidence {
        let first = reasons.iter().filter_map(|&reason| self.counters().first_ended(reason)).min();
        let since = first.map_or(Since::Unknown, Since::Before);
        let seen_of = |reason: &&CloseReason| self.counters().ended(**reason) > 0;
        let seen_reasons = reasons.iter().filter(seen_of).copied().collect();
        let evidence = Evidence::new(self.ended(reasons), seen, advice).since(since);
        Evidence { reasons: seen_reasons, ..evidence }
    }

    /// How often each of these reasons occurred.
    pub(super) fn by_reason(&self, reasons: &[CloseReason]) -> String {
        list(reasons.iter().map(|&reason| (reason, self.counters().ended(reason))))
    }

    pub(super) fn is(&self, role: Role) -> bool {
        self.row.identity.role == role
    }

    /// A setting, with its value in the host's namespace. The values of other namespaces are not
    /// known.
    pub(super) fn sysctl(&self, name: &str) -> String {
        match self.value(name) {
            Some(value) => {
                let value = value.split_whitespace().collect::<Vec<_>>();
                format!("{name} ({})", value.join(" "))
            }
            None => name.to_owned(),
        }
    }

    /// A setting in the host's namespace as a number; `None` if it is not known.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.value(name)?.trim().parse().ok()
    }

    /// Whether the kernel may choose this port for clients; `None` if it is not known.
    pub(super) fn is_ephemeral(&self, port: u16) -> Option<bool> {
        let range = self.value("net.ipv4.ip_local_port_range")?;
        let mut ends = range.split_whitespace().map(str::parse::<u16>);
        let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
        Some((first..=last).contains(&port))
    }

    fn value(&self, name: &str) -> Option<&str> {
        let is_host =
            matches!(&self.row.identity.netns_name, Common::One(name) if **name == *HOST_NETNS);
        self.sysctls.get(name).filter(|_| is_host).map(String::as_str)
    }

    /// Attempts that succeeded or failed in the interval.
    pub(super) fn attempts(&self) -> u64 {
        self.counters().established + self.counters().failed()
    }

    /// The time from a moment to the end of the interval.
    pub(super) fn time_since(&self, time: Nanos) -> Duration {
        Duration::from_nanos(self.end.saturating_sub(time))
    }
}

/// The reasons that occurred, with their counts: `timeout_user 3, timeout_orphan 1`.
pub(crate) fn list(counts: impl Iterator<Item = (CloseReason, u64)>) -> String {
    let counts = counts.filter(|&(_, count)| count > 0);
    let counts = counts.map(|(reason, count)| format!("{} {count}", reason.id()));
    counts.collect::<Vec<_>>().join(", ")
}

/// Whether `count` of `all` connections are too many for chance.
pub(super) fn is_pattern(count: u64, all: u64) -> bool {
    count >= LEAST && pct(count, all) >= SHARE_PCT
}

/// The statement about `count` of `all` connections; `None` if these are too few to matter.
pub(super) fn share(count: u64, all: u64, what: &str) -> Option<String> {
    is_pattern(count, all).then(|| format!("{count} of {all} {what} ({})", percent(count, all)))
}

/// A percentage as text: `0.4 %`, `37 %`.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let pct = pct(part, whole);
    if pct < 10.0 { format!("{pct:.1} %") } else { format!("{pct:.0} %") }
}

/// A duration as text: `85 µs`, `12 ms`, `12.3 s` or `4 min`.
pub(super) fn span(duration: Duration) -> String {
    match duration.as_secs() {
        0 if duration.as_millis() == 0 => format!("{} µs", duration.as_micros()),
        0 => format!("{} ms", duration.as_millis()),
        1..=119 => format!("{:.1} s", duration.as_secs_f64()),
        seconds => format!("{} min", seconds / 60),
    }
}

/// `part` of `whole` as a percentage.
pub(super) fn pct(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}
