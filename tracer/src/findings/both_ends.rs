//! Joins findings that are one: a problem, and what it causes in the same row or at the other end of the
//! same connections if that is on this host too.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::Finding;
use crate::{
    tcp::role::Role,
    trace::ids::NetnsInode,
    tracker::{Common, RowSnapshot},
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

/// The network namespaces of this host that have an address, as far as its connections show.
#[derive(Clone, Default)]
pub(super) struct Places(BTreeMap<IpAddr, BTreeSet<NetnsInode>>);

impl Places {
    pub(super) fn of(rows: &[RowSnapshot]) -> Self {
        let mut places = BTreeMap::<_, BTreeSet<_>>::new();
        for identity in rows.iter().map(|row| &row.identity) {
            let Common::One(netns) = identity.netns else { continue };
            for &address in &identity.addresses {
                places.entry(address).or_default().insert(netns);
            }
        }
        Self(places)
    }

    /// Whether one finding is about the server of the other one's clients.
    fn are_ends(&self, server: &Finding, clients: &Finding) -> bool {
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
            self.0.get(&remote).is_some_and(|places| {
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
    joined.into_iter().flatten().collect()
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
            && (places.are_ends(cause, effect) || places.are_ends(effect, cause)))
}
