//! Joins findings that are one: a problem, and what it causes in the same row or at the other end of the
//! same connections if that is on this host too. Names who resets connections there on purpose.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Finding, Severity};
use crate::{
    tcp::{close_reason::CloseReason, role::Role},
    trace::ids::NetnsInode,
    tracker::{Common, RowIdentity, RowSnapshot},
};

/// Findings, and the findings that they cause in the same row.
const IN_THE_ROW: &[(&[&str], &[&str])] = &[
    (
        &["syn_flood", "syn_queue_overflow", "accept_queue_overflow", "half_open_unanswered"],
        &["handshakes_retransmit"],
    ),
    (&["close_wait_leak"], &["ports_run_out"]),
    (&["connections_time_out", "idle_dropped"], &["connections_stalled"]),
];

/// Findings, and the findings that they cause at the other end.
const AT_THE_OTHER_END: &[(&[&str], &[&str])] = &[
    (
        &["syn_flood", "syn_queue_overflow", "accept_queue_overflow", "nobody_accepts"],
        &[
            "connect_timeout",
            "connect_abandoned",
            "handshakes_retransmit",
            "connections_stalled",
            "connections_time_out",
        ],
    ),
    (&["nobody_listens", "listener_gone"], &["connect_refused"]),
    (&["listener_gone", "listener_closed"], &["reset_by_peer"]),
    (&["unread_data"], &["reset_by_peer", "idle_dropped", "health_checks"]),
    (&["ended_abnormally"], &["reset_by_peer", "idle_dropped", "health_checks"]),
    (&["data_after_close"], &["keepalive_race", "peer_left", "reset_by_peer"]),
    (&["path_loses"], &["path_loses"]),
    (&["handshakes_retransmit"], &["handshakes_retransmit"]),
    (&["connections_stalled"], &["connections_stalled"]),
    (&["connections_time_out"], &["connections_time_out", "connections_stalled"]),
];

/// One end of connections: that of a finding or of a row.
#[derive(Clone, Copy)]
struct End<'a> {
    role: Role,
    port: Option<u16>,
    remote: Option<IpAddr>,
    netns: Option<NetnsInode>,
    /// The local addresses.
    addresses: &'a BTreeSet<IpAddr>,
}

impl<'a> End<'a> {
    fn of(finding: &'a Finding) -> Self {
        let &Finding { role, port, remote, netns, ref addresses, .. } = finding;
        Self { role, port, remote, netns, addresses }
    }

    fn of_row(identity: &'a RowIdentity) -> Self {
        Self {
            role: identity.role,
            port: identity.port.one().copied(),
            remote: identity.remote.one().copied(),
            netns: identity.netns.one().copied(),
            addresses: &identity.addresses,
        }
    }
}

/// A row whose connections this host closed with SO_LINGER 0.
#[derive(Clone)]
struct Closer {
    identity: RowIdentity,
    /// Number of these connections.
    count: u64,
}

impl Closer {
    fn of(row: &RowSnapshot) -> Option<Self> {
        let count = row.stats.counters.ended(CloseReason::ResetByUsLinger0);
        (count > 0).then(|| Self { identity: row.identity.clone(), count })
    }

    /// The process, for people.
    fn owner(&self) -> String {
        match (&self.identity.owner, &self.identity.pid) {
            (Common::One(name), Common::One(pid)) => format!("{name} (process {pid})"),
            (Common::One(name), _) => name.to_string(),
            (Common::Several(count), _) => format!("{count} different processes"),
            (Common::Unknown, _) => "a process".to_owned(),
        }
    }
}

/// What the rows of this host tell of the other ends of its connections.
#[derive(Clone, Default)]
pub(super) struct Places {
    /// The network namespaces that have an address, as far as connections show.
    by_address: BTreeMap<IpAddr, BTreeSet<NetnsInode>>,
    closers: Vec<Closer>,
}

impl Places {
    pub(super) fn of(rows: &[RowSnapshot]) -> Self {
        let mut by_address = BTreeMap::<_, BTreeSet<_>>::new();
        for identity in rows.iter().map(|row| &row.identity) {
            let Common::One(netns) = identity.netns else { continue };
            for &address in &identity.addresses {
                by_address.entry(address).or_default().insert(netns);
            }
        }
        Self { by_address, closers: rows.iter().filter_map(Closer::of).collect() }
    }

    /// If the peers of a finding that reset its connections are on this host, and closed them with
    /// SO_LINGER 0, says so.
    fn name_closer(&self, finding: &mut Finding) {
        if !finding.reasons.contains(&CloseReason::ResetByPeer) {
            return;
        }
        let end = End::of(finding);
        let is_other_end = |closer: &&Closer| {
            let other = End::of_row(&closer.identity);
            self.are_ends(end, other) || self.are_ends(other, end)
        };
        let closers: Vec<_> = self.closers.iter().filter(is_other_end).collect();
        let count: u64 = closers.iter().map(|closer| closer.count).sum();
        if closers.is_empty() || count.saturating_mul(2) < finding.count {
            return;
        }
        let owners: BTreeSet<_> = closers.iter().map(|closer| closer.owner()).collect();
        let owners = owners.into_iter().collect::<Vec<_>>().join(", ");
        finding.seen += &format!(
            "; at the other end, on this host, {owners} closed {count} connections with SO_LINGER 0"
        );
        finding.advice = format!(
            "if data is lost, let {owners} close without SO_LINGER 0; that spares it TIME_WAIT, as would a peer that closes first"
        );
        finding.matters = "nothing, if it is intended; data that was on its way is lost";
        finding.title = match finding.role {
            Role::Client => "a server on this host closes by a reset (SO_LINGER 0)",
            Role::Server | Role::Unknown => "clients on this host close by a reset (SO_LINGER 0)",
        };
        finding.severity = Severity::Notice;
    }

    /// Whether one end is the server of the other one's clients.
    fn are_ends(&self, server: End<'_>, clients: End<'_>) -> bool {
        let (Role::Server, Role::Client, Some(port), Some(remote), Some(netns)) =
            (server.role, clients.role, server.port, clients.remote, server.netns)
        else {
            return false;
        };
        let is_one_netns = clients.netns == Some(netns);
        // Of a server without a connection, no address is known.
        let is_address = server.addresses.is_empty() || server.addresses.contains(&remote);
        let is_here = if remote.is_loopback() {
            is_one_netns
        } else {
            // If several namespaces have the address, only routes tell which one the clients reach.
            self.by_address.get(&remote).is_some_and(|places| {
                places.contains(&netns) && (is_one_netns || places.len() == 1)
            })
        };
        clients.port == Some(port) && is_address && is_here
    }
}

/// Moves each finding that another one causes into that one.
pub(super) fn join(findings: Vec<Finding>, places: &Places) -> Vec<Finding> {
    // A cause and its effect have one port.
    let mut by_port = BTreeMap::<_, Vec<_>>::new();
    for (index, finding) in findings.iter().enumerate() {
        by_port.entry(finding.port).or_default().push(index);
    }
    let mut joined: Vec<Option<Finding>> = findings.into_iter().map(Some).collect();
    for candidates in by_port.values() {
        for &effect in candidates {
            let cause = candidates.iter().copied().find(|&cause| {
                let pair = joined[cause].as_ref().zip(joined[effect].as_ref());
                let is_cause = |(cause, effect)| is_caused(effect, cause, places);
                cause != effect && pair.is_some_and(is_cause)
            });
            if let Some(cause) = cause
                && let Some(effect) = joined[effect].take()
                && let Some(cause) = &mut joined[cause]
            {
                cause.join(effect);
            }
        }
    }
    let mut joined: Vec<_> = joined.into_iter().flatten().collect();
    joined.iter_mut().for_each(|finding| places.name_closer(finding));
    joined
}

fn is_caused(effect: &Finding, cause: &Finding, places: &Places) -> bool {
    let is_in = |table: &[(&[&str], &[&str])]| {
        table.iter().any(|(causes, effects)| {
            causes.contains(&cause.rule.id) && effects.contains(&effect.rule.id)
        })
    };
    let place = |finding: &Finding| (finding.role, finding.port, finding.remote, finding.netns);
    // A reset at this end, if there is a reason, is what the other end sees.
    let can_cause = cause.reasons.iter().all(|reason| reason.id().starts_with("reset_by_us"))
        || cause.rule.id != "ended_abnormally";
    // Others than these may have more of them.
    let explains_most = cause.count.saturating_mul(2) >= effect.count;
    (is_in(IN_THE_ROW) && place(cause) == place(effect))
        || (is_in(AT_THE_OTHER_END)
            && can_cause
            && explains_most
            && (places.are_ends(End::of(cause), End::of(effect))
                || places.are_ends(End::of(effect), End::of(cause))))
}
