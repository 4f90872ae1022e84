//! The rules about ports without a listener.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use synfin_common::reset::ResetReason;

use super::{
    addresses::{self, RefusedHere},
    case::{Capture, Case, Evidence, Look, Since, span},
    thresholds::{LEAST, LISTENER_GAP},
};
use crate::{
    tcp::{close_reason::CloseReason, role::Role},
    tracker::Common,
};

/// How long the port had no listener in the interval, and since when; `None` if it always had one, or never.
fn gap(case: &Case<'_>) -> Option<(Duration, Since)> {
    // A row keeps its last gap, which may be older than the interval.
    let uptime = &case.stats().uptime;
    let gap = uptime.gap(case.end).filter(|_| uptime.has_changed_since(case.start))?;
    Some((Duration::from_nanos(gap), uptime.closed.map_or(Since::Unknown, Since::At)))
}

pub(super) fn nobody_listens(case: &Case<'_>) -> Option<Evidence> {
    let Common::One(port) = case.row.identity.port else { return None };
    if !case.is(Role::Server) || gap(case).is_some() {
        return None;
    }
    if case.counters().established > 0 {
        return nobody_listens_there(case, port);
    }
    let here = RefusedHere::of(case);
    // Before Linux 6.10, resets are not known.
    let refused = case.counters().resets(ResetReason::NoSocket).max(here.count);
    if refused < LEAST {
        return None;
    }
    // A connection that is older than the trace may have had it.
    let late = match case.is_ephemeral(port) {
        Some(true) if here.count == 0 => {
            "; it is one that clients use as well, so these may be late segments of an old connection"
        }
        _ => "",
    };
    let listening = &case.row.identity.listening;
    let (seen, advice) = if listening.is_empty() && case.stats().scanned.listeners == 0 {
        (
            format!(
                "{refused} segments were answered by a reset, because nothing listens on the port{late}"
            ),
            "start the service, or find out who still connects to it (the capture shows the clients)",
        )
    } else {
        let mut seen = format!(
            "{refused} segments were answered by a reset, and no connection was established, although something listens on the port"
        );
        if !listening.is_empty() {
            seen += &format!(" ({})", addresses::list(listening, port));
        }
        if !here.addresses.is_empty() {
            let tried = addresses::list(&here.addresses, port);
            seen += &format!("; clients on this host try {tried}");
        }
        let advice = "compare the address of the listener with the one that the clients connect to (the capture shows it)";
        (seen, advice)
    };
    // Of a server without a connection, no address is known.
    let known = &case.row.identity.addresses;
    let addresses = (!known.is_empty()).then(|| known.union(&here.addresses).copied().collect());
    let evidence = Evidence::new(refused, seen, advice);
    let evidence = evidence.look_at(Look::Row).capture(Capture::Handshakes);
    Some(Evidence { addresses, ..evidence })
}

/// The evidence that clients on this host try an address of a port without a listener, while others
/// have one. (Of clients elsewhere, resets do not show the address.)
fn nobody_listens_there(case: &Case<'_>, port: u16) -> Option<Evidence> {
    const ABOUT: (&str, &str) =
        ("nobody listens on one of the addresses that clients try", addresses::ONE_OF_TWO);
    let RefusedHere { count, addresses: tried } = RefusedHere::of(case);
    let listening = &case.row.identity.listening;
    if count < LEAST || listening.is_empty() {
        return None;
    }
    let is_v6_only =
        tried.iter().any(IpAddr::is_ipv4) && listening.contains(&IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let v6_only = if is_v6_only { ", for IPv6 only (IPV6_V6ONLY)" } else { "" };
    let (there, here) = (addresses::list(&tried, port), addresses::list(listening, port));
    let seen = format!(
        "{count} attempts of clients on this host were refused: nothing listens on {there}; listeners are on {here}{v6_only}"
    );
    let localhost = if tried.contains(&IpAddr::V6(Ipv6Addr::LOCALHOST)) {
        " (the name localhost has ::1 and 127.0.0.1)"
    } else {
        ""
    };
    let advice = format!(
        "let the service listen on {there} as well, or the clients connect to an address that has a listener{localhost}"
    );
    let evidence = Evidence::new(count, seen, advice).capture(Capture::Handshakes);
    Some(Evidence { about: Some(ABOUT), addresses: Some(tried), ..evidence })
}

pub(super) fn listener_gone(case: &Case<'_>) -> Option<Evidence> {
    if !case.is(Role::Server) {
        return None;
    }
    let (gap, since) = gap(case)?;
    let refused = case.counters().resets(ResetReason::NoSocket);
    let not_accepted = case.ended(&[CloseReason::ResetByUsListenerClosed]);
    let reset = refused.saturating_add(not_accepted);
    if gap < LISTENER_GAP || reset < LEAST {
        return None;
    }
    let gap = span(gap);
    let seen = format!(
        "no listener for {gap}: {refused} clients were refused, {not_accepted} connections that were not accepted yet were reset"
    );
    let advice = "pass the listener on (socket activation; SO_REUSEPORT, opening the new one first), and accept() waiting connections before closing it";
    Some(Evidence::new(reset, seen, advice).since(since))
}

pub(super) fn listener_closed(case: &Case<'_>) -> Option<Evidence> {
    const REASONS: &[CloseReason] = &[CloseReason::ResetByUsListenerClosed];
    let not_accepted = case.ended(REASONS);
    if not_accepted < LEAST || listener_gone(case).is_some() {
        return None;
    }
    let left = match case.stats().scanned.listeners {
        1 => "1 listener is left".to_owned(),
        listeners => format!("{listeners} listeners are left"),
    };
    let seen = format!(
        "{not_accepted} connections waited for accept() when their listener closed, and were reset; {left}"
    );
    let advice = "accept() the waiting connections before the listener closes, or let the kernel move them to another one of its SO_REUSEPORT group (net.ipv4.tcp_migrate_req = 1, since Linux 5.14)";
    Some(case.of_ends(REASONS, seen, advice))
}
