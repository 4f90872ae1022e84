//! The rules about attempts to connect.

use std::{net::SocketAddr, time::Duration};

use synfin_common::state::TcpState;

use super::{
    Severity,
    addresses::{ONE_OF_TWO, accepted_at},
    case::{Capture, Case, Evidence, Look, pct, percent, share, span},
    thresholds::{LEAST, RETRANSMITTED_PCT},
};
use crate::tcp::{close_reason::CloseReason, role::Role};

/// How many seconds the kernel waits for an answer to a SYN: after `linear` timeouts of a second
/// (`tcp_syn_linear_timeouts`), they double with each of the `retries`, up to `TCP_RTO_MAX`
/// (`net/ipv4/tcp_timer.c`).
fn seconds_until_timeout(retries: u32, linear: u32) -> u64 {
    let doubled = (0..=retries.min(255)).map(|nth| (1 << nth.min(7)).min(120));
    u64::from(linear) + doubled.sum::<u64>()
}

/// How long connect() waits on this host, in words.
fn patience(case: &Case<'_>) -> String {
    let setting = case.sysctl("net.ipv4.tcp_syn_retries");
    match case.number("net.ipv4.tcp_syn_retries") {
        Some(retries) => {
            // Not there before Linux 6.5.
            let linear = case.number("net.ipv4.tcp_syn_linear_timeouts").unwrap_or(0);
            let seconds = seconds_until_timeout(retries, linear);
            format!("with {setting} connect() fails after {seconds} s")
        }
        None => format!("{setting} limits the retries"),
    }
}

pub(super) fn connect_timeout(case: &Case<'_>) -> Option<Evidence> {
    const REASONS: [CloseReason; 2] = [CloseReason::ConnectTimeout, CloseReason::ConnectAbandoned];
    let pending = case.stats().gauges.pending;
    // The scan is a little older.
    let waiting = case.stats().scanned.unanswered.min(pending);
    if case.ended(&REASONS[..1]) + waiting == 0 {
        return None;
    }
    let count = case.ended(&REASONS) + waiting;
    let mut seen = share(count, case.attempts() + pending, "attempts got no answer")?;
    if waiting > 0 {
        seen += &format!("; {waiting} of them still wait");
    }
    let abandoned = case.ended(&REASONS[1..]);
    if abandoned > 0 {
        seen += &format!("; the application did not wait for the end of {abandoned} of them");
    }
    let advice = format!(
        "check that the host is up and that no firewall drops the SYNs (tcpdump on both ends); {}",
        patience(case)
    );
    let evidence = case.of_ends(&REASONS, seen, advice).capture(Capture::Handshakes);
    Some(Evidence { count, ..evidence.look_at(Look::Open(Some(TcpState::SynSent))) })
}

pub(super) fn connect_abandoned(case: &Case<'_>) -> Option<Evidence> {
    const REASONS: &[CloseReason] = &[CloseReason::ConnectAbandoned];
    if connect_timeout(case).is_some() {
        return None;
    }
    // If others succeed, the application may have tried several addresses.
    let none_succeeds = case.counters().established == 0;
    let early = if none_succeeds { case.counters().cancelled_late } else { 0 };
    let count = case.ended(REASONS) + early;
    let what = "attempts were given up by the application without an answer";
    let mut seen = share(count, case.attempts(), what)?;
    if early > 0 {
        seen += &format!("; {early} of them before the SYN was sent again");
    }
    let advice = format!(
        "check that the host is up and that no firewall drops the SYNs (tcpdump on both ends); the application's own timeout is shorter than the kernel's: {}",
        patience(case)
    );
    let all = [CloseReason::ConnectAbandoned, CloseReason::ConnectCancelled];
    let reasons = if early > 0 { &all[..] } else { REASONS };
    let evidence = case.of_ends(reasons, seen, advice).capture(Capture::Handshakes);
    Some(Evidence { count, ..evidence })
}

pub(super) fn connect_refused(case: &Case<'_>) -> Option<Evidence> {
    const REASONS: &[CloseReason] =
        &[CloseReason::ConnectRefusedRst, CloseReason::ConnectRefusedIcmp];
    let by_reset = case.ended(&REASONS[..1]);
    let by_icmp = case.ended(&REASONS[1..]);
    let refused = share(by_reset + by_icmp, case.attempts(), "attempts were refused")?;
    let how = match (by_reset, by_icmp) {
        (_, 0) => "all by a reset".to_owned(),
        (0, _) => "all by ICMP".to_owned(),
        _ => format!("{by_reset} by a reset, {by_icmp} by ICMP"),
    };
    let seen = format!("{refused}: {how}");
    if let Some((address, port)) = accepted_at(case).zip(case.row.identity.port.one()) {
        let other = SocketAddr::new(address, *port);
        let seen = format!("{seen}; at {other} the same clients are accepted");
        let advice = format!(
            "let the service listen on all addresses that its name has, or remove this one from the name (A, AAAA, /etc/hosts), or let the clients connect to {other}"
        );
        let about = Some(("one of two addresses refuses connections", ONE_OF_TWO));
        let evidence = case.of_ends(REASONS, seen, advice);
        return Some(Evidence { about, severity: Some(Severity::Warning), ..evidence });
    }
    let advice = if by_reset >= by_icmp {
        "check that the server runs and listens on that address and port"
    } else {
        "find out what answers for the host: usually a firewall that rejects"
    };
    Some(case.of_ends(REASONS, seen, advice))
}

pub(super) fn handshakes_retransmit(case: &Case<'_>) -> Option<Evidence> {
    let counters = case.counters();
    let (count, all) = (counters.retransmitted.count(), counters.established);
    if count < LEAST || pct(count, all) < RETRANSMITTED_PCT {
        return None;
    }
    let half = counters.retransmitted.quantile(0.5).map(Duration::from_micros).map(span);
    let seen = format!(
        "{count} of {all} handshakes ({}) retransmitted; half of these took {} or longer",
        percent(count, all),
        half.unwrap_or_default()
    );
    let advice = match case.row.identity.role {
        Role::Client => {
            "check whether the path loses packets or the server drops SYNs (listen() backlog, net.ipv4.tcp_max_syn_backlog, a rate limit)"
        }
        Role::Server | Role::Unknown => {
            "check whether the path to the clients loses packets, or last ACKs find the accept queue full"
        }
    };
    Some(Evidence::new(count, seen, advice).look_at(Look::Ending).capture(Capture::Handshakes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_until_connect_fails_follows_from_the_settings() {
        for ((retries, linear), seconds) in
            [((6, 0), 127), ((2, 0), 7), ((0, 0), 1), ((6, 4), 131), ((10, 0), 607)]
        {
            assert_eq!(seconds_until_timeout(retries, linear), seconds);
        }
    }
}
