//! The rules about established connections: how they end, and why they do not.

use std::time::Duration;

use synfin_common::state::TcpState;

use super::{
    Severity,
    case::{Capture, Case, Evidence, Look, Since, is_pattern, pct, percent, share, span},
    thresholds::{CHECKS_PCT, IDLE, IDLE_SPREAD, LEAST, LOST_PCT, STALLED_PCT},
};
use crate::{
    tcp::{
        close_reason::{Class, CloseReason, Phase},
        role::Role,
    },
    tracker::{IDLE_ENDS, LONG, Segments},
};

/// Ends by a timeout: the peer or the path is down.
pub(super) const TIMEOUTS: &[CloseReason] = &[
    CloseReason::TimeoutRetransmission,
    CloseReason::TimeoutUser,
    CloseReason::TimeoutKeepalive,
    CloseReason::TimeoutZeroWindow,
    CloseReason::TimeoutOrphan,
];

/// Number of connections that ended for one of these reasons, without those of [`idle_dropped`].
fn not_idle(case: &Case<'_>, reasons: &[CloseReason]) -> u64 {
    let count = case.ended(reasons);
    let idle = idle_dropped(case).map_or(0, |evidence| evidence.count);
    // Which of them were idle is not known.
    let others = IDLE_ENDS.iter().filter(|reason| !reasons.contains(reason)).copied();
    let others = case.ended(&others.collect::<Vec<_>>());
    count.saturating_sub(idle.saturating_sub(others))
}

pub(super) fn connections_stalled(case: &Case<'_>) -> Option<Evidence> {
    let stats = case.stats();
    let open = stats.gauges.open;
    // The scan is a little older.
    let stalled = stats.scanned.stalled.min(open);
    if stalled < LEAST || pct(stalled, open) < STALLED_PCT {
        return None;
    }
    let counters = case.counters();
    let (clean, again) = (counters.clean.count(), counters.retransmitted.count());
    let handshakes = if clean + again == 0 {
        String::new()
    } else {
        format!("; {clean} of {} handshakes were clean", clean + again)
    };
    let advice = if clean > again {
        "if new connections still succeed, small segments pass and large ones do not: the path has a smaller MTU than this host and its ICMP messages are lost (`ping -M do -s 1472`; set net.ipv4.tcp_mtu_probing to 1, or clamp the MSS); if not, the path or the peer is down"
    } else {
        "the path or the peer is down: capture on both ends to see where segments are lost"
    };
    let seen =
        format!("{stalled} of {open} open connections retransmit without an answer{handshakes}");
    Some(Evidence::new(stalled, seen, advice).look_at(Look::Open(None)).capture(Capture::All))
}

pub(super) fn path_loses(case: &Case<'_>) -> Option<Evidence> {
    let (counters, open) = (case.counters(), case.stats().gauges.open);
    let Segments { sent, retransmitted } = counters.segments;
    let (ended, living) = (counters.retransmitting, case.row.retransmitting());
    let count = ended + living;
    let is_pattern = count.min(retransmitted) >= LEAST && pct(retransmitted, sent) >= LOST_PCT;
    let more = [connections_time_out, idle_dropped, connections_stalled];
    if !is_pattern || more.iter().any(|check| check(case).is_some()) {
        return None;
    }
    let mut rtts = counters.rtt.clone();
    rtts.merge(&case.stats().scanned.rtt);
    let rtt = rtts.quantile(0.5).map(Duration::from_micros).map(span);
    let rtt =
        rtt.map_or_else(String::new, |rtt| format!("; half of the round trips took {rtt} or less"));
    let by = [(ended, counters.closed(), "that ended"), (living, open, "that are open")];
    let by = by.into_iter().filter(|(part, ..)| *part > 0);
    let by = by.map(|(part, all, which)| format!("{part} of {all} connections {which}"));
    let seen = format!(
        "{retransmitted} of {sent} segments were retransmitted ({}), by {}{rtt}",
        percent(retransmitted, sent),
        by.collect::<Vec<_>>().join(" and ")
    );
    let look = if living > ended { Look::Open(None) } else { Look::Ending };
    let advice = "find where packets are lost (`mtr`, drops of devices and queues: `ip -s link`, `tc -s qdisc`), on both ends";
    Some(Evidence::new(count, seen, advice).look_at(look).capture(Capture::All))
}

pub(super) fn connections_time_out(case: &Case<'_>) -> Option<Evidence> {
    const SOFT: &[CloseReason] = &[CloseReason::TimeoutKeepalive, CloseReason::TimeoutOrphan];
    let count = not_idle(case, TIMEOUTS);
    let what = "connections ended because the peer answered nothing any more";
    let seen = share(count, case.counters().closed(), what)?;
    let all = case.by_reason(TIMEOUTS);
    let seen = format!("{seen}; all timeouts: {all}");
    let advice = format!(
        "check the peer and the path (tcpdump on both ends); how long the kernel retransmits is set by {} or TCP_USER_TIMEOUT",
        case.sysctl("net.ipv4.tcp_retries2")
    );
    // Clients that vanish are usual.
    let is_soft = case.is(Role::Server) && case.ended(SOFT) == case.ended(TIMEOUTS);
    let evidence = case.of_ends(TIMEOUTS, seen, advice).capture(Capture::All);
    Some(Evidence { count, severity: is_soft.then_some(Severity::Warning), ..evidence })
}

pub(super) fn idle_dropped(case: &Case<'_>) -> Option<Evidence> {
    let times = &case.counters().idle_cut;
    let idle_us = u64::try_from(IDLE.as_micros()).unwrap_or(u64::MAX);
    let count = times.count_from(idle_us);
    let quantile = |quantile| Some(Duration::from_micros(times.quantile(quantile)?));
    let (least, half, most) = (quantile(0.1)?, quantile(0.5)?, quantile(0.9)?);
    if half < IDLE {
        return None;
    }
    let what = "connections ended by a reset or a timeout after being idle";
    let share = share(count, case.counters().closed(), what)?;
    let seen = if most.as_secs_f64() <= least.as_secs_f64() * IDLE_SPREAD {
        format!("{share}, nearly all for about {}: a timer", span(half))
    } else {
        format!("{share}, half of them for {} or longer", span(half))
    };
    let advice = format!(
        "a NAT, firewall or load balancer on the path drops idle connections, or the peer closes them without notice: send keepalives more often (SO_KEEPALIVE and TCP_KEEPIDLE, {})",
        case.sysctl("net.ipv4.tcp_keepalive_time")
    );
    Some(Evidence { count, ..case.of_ends(IDLE_ENDS, seen, advice) })
}

pub(super) fn close_wait_leak(case: &Case<'_>) -> Option<Evidence> {
    let all = case.stats().gauges.state(TcpState::CloseWait);
    let oldest = case.stats().oldest(TcpState::CloseWait)?;
    // The application has nothing to close before accept().
    let count = oldest.long.saturating_sub(case.stats().scanned.accept_queue);
    let age = case.time_since(oldest.since);
    if count < LEAST {
        return None;
    }
    let least = if oldest.at_least { "≥" } else { "" };
    let owner = oldest.owner.as_ref().map_or_else(
        || "the application".to_owned(),
        |owner| match owner.pid {
            Some(pid) => format!("{} (process {pid})", owner.label.name),
            None => owner.label.name.to_string(),
        },
    );
    let seen = format!(
        "{all} connections are in CLOSE_WAIT, {count} of them for {} or longer, the oldest for {least}{}",
        span(LONG),
        span(age)
    );
    let advice = format!(
        "{owner} must close() its socket once read() returns 0 (the peer has closed): find the code path that does not"
    );
    let since = if oldest.at_least { Since::Before } else { Since::At };
    let evidence = Evidence::new(count, seen, advice).since(since(oldest.since));
    let evidence = evidence.look_at(Look::Open(Some(TcpState::CloseWait)));
    Some(Evidence { culprit: oldest.owner.clone(), ..evidence })
}

pub(super) fn time_wait_overflow(case: &Case<'_>) -> Option<Evidence> {
    let count = case.counters().time_wait_overflowed;
    let advice = format!("raise {}", case.sysctl("net.ipv4.tcp_max_tw_buckets"));
    (count > 0).then(|| {
        let seen = format!("{count} connections closed without TIME_WAIT");
        Evidence::new(count, seen, advice).look_at(Look::Listeners)
    })
}

pub(super) fn unread_data(case: &Case<'_>) -> Option<Evidence> {
    const REASONS: &[CloseReason] = &[CloseReason::ResetByUsUnreadData];
    let what = "connections were closed with unread data";
    let seen = share(case.ended(REASONS), case.counters().closed(), what)?;
    let advice = "let the application read until the peer closes (or shutdown(SHUT_WR), then read) before it closes";
    Some(case.of_ends(REASONS, seen, advice))
}

pub(super) fn data_after_close(case: &Case<'_>) -> Option<Evidence> {
    const REASONS: &[CloseReason] = &[CloseReason::ResetByUsDataAfterClose];
    let what = "connections got data after this side had closed them";
    let seen = share(case.ended(REASONS), case.counters().closed(), what)?;
    let advice = match case.row.identity.role {
        Role::Server => {
            "if the service closes idle connections, let the clients close them first: their keep-alive timeout must be the shorter one; otherwise let it read to the end before it closes"
        }
        Role::Client | Role::Unknown => {
            "let the application read to the end before it closes, or use a longer timeout for the answer"
        }
    };
    Some(case.of_ends(REASONS, seen, advice))
}

/// The statement about resets by peers that had closed before, if most of them had.
fn reset_after_fin(case: &Case<'_>) -> Option<String> {
    let (resets, after) =
        (case.ended(&[CloseReason::ResetByPeer]), case.counters().reset_after_fin);
    let is_most = 2 * after >= resets && is_pattern(after, case.counters().closed());
    is_most.then(|| {
        format!("{after} of {resets} connections that the peer reset had been closed by it before")
    })
}

pub(super) fn keepalive_race(case: &Case<'_>) -> Option<Evidence> {
    let seen = reset_after_fin(case).filter(|_| case.is(Role::Client))?;
    let count = case.counters().reset_after_fin;
    let advice = "if the server closes idle connections, this side's keep-alive timeout must be shorter than the server's, and a request that meets a closed connection has to be sent again; if they closed at one moment, the server was stopped";
    Some(Evidence { count, ..case.of_ends(&[CloseReason::ResetByPeer], seen, advice) })
}

pub(super) fn peer_left(case: &Case<'_>) -> Option<Evidence> {
    let seen = reset_after_fin(case).filter(|_| case.is(Role::Server))?;
    let count = case.counters().reset_after_fin;
    let advice = "compare the clients' timeout with the time that an answer takes";
    Some(Evidence { count, ..case.of_ends(&[CloseReason::ResetByPeer], seen, advice) })
}

pub(super) fn health_checks(case: &Case<'_>) -> Option<Evidence> {
    let (resets, early) = (case.ended(&[CloseReason::ResetByPeer]), case.counters().reset_early);
    let is_most = pct(early, resets) >= CHECKS_PCT && is_pattern(early, case.counters().closed());
    if !case.is(Role::Server) || !is_most || peer_left(case).is_some() {
        return None;
    }
    let seen = format!(
        "{early} of {resets} connections that peers reset had lasted less than a second ({} of all)",
        percent(early, case.counters().closed())
    );
    let advice = "if no load balancer checks this port, find out which clients reset their connections, and whether they got their answer";
    Some(Evidence { count: early, ..case.of_ends(&[CloseReason::ResetByPeer], seen, advice) })
}

pub(super) fn reset_by_peer(case: &Case<'_>) -> Option<Evidence> {
    const REASONS: &[CloseReason] = &[CloseReason::ResetByPeer];
    let explanations = [keepalive_race, peer_left, health_checks];
    let explained: u64 =
        explanations.iter().filter_map(|check| check(case)).map(|evidence| evidence.count).sum();
    let count = not_idle(case, REASONS).saturating_sub(explained);
    let seen = share(count, case.counters().closed(), "connections were reset by the peer")?;
    let advice = "check the peer: it crashed or closed with unread data (synfin on the peer reports which), or a device between reset both sides";
    Some(Evidence { count, ..case.of_ends(REASONS, seen, advice) })
}

/// Evidence for each abnormal reason that is none of those explained, and for the rest of each phase
/// together.
pub(super) fn of_other_reasons(case: &Case<'_>, explained: &[CloseReason]) -> Vec<Evidence> {
    let mut found = Vec::new();
    for (phase, all) in
        [(Phase::Handshake, case.attempts()), (Phase::Established, case.counters().closed())]
    {
        let severity = (phase == Phase::Handshake).then_some(Severity::Critical);
        let others = CloseReason::ALL.iter().copied().filter(|reason| {
            reason.phase() == phase
                && reason.class() == Class::Abnormal
                && !explained.contains(reason)
                && case.counters().ended(*reason) > 0
        });
        let (patterns, rest): (Vec<_>, Vec<_>) =
            others.partition(|&reason| is_pattern(case.counters().ended(reason), all));
        found.extend(patterns.into_iter().map(|reason| {
            let info = reason.info();
            let (count, what) = (case.counters().ended(reason), phase.sum());
            let seen = format!("{count} connections {what}: {}", info.id);
            let evidence = Evidence { severity, ..case.of_ends(&[reason], seen, info.advice) };
            Evidence { about: Some((info.title, info.meaning)), ..evidence }
        }));
        if is_pattern(case.ended(&rest), all) {
            let (count, what) = (case.ended(&rest), phase.sum());
            let seen = format!("{count} connections {what}: {}", case.by_reason(&rest));
            let advice = "`synfin explain` has advice for each reason";
            found.push(Evidence { severity, ..case.of_ends(&rest, seen, advice) });
        }
    }
    found
}
