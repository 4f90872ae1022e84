//! The rules about ports without a listener.

use std::time::Duration;

use synfin_common::reset::ResetReason;

use super::{
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
    let refused = case.counters().resets(ResetReason::NoSocket);
    let is_served = case.counters().established > 0 || gap(case).is_some();
    let Common::One(port) = case.row.identity.port else { return None };
    if !case.is(Role::Server) || is_served || refused < LEAST {
        return None;
    }
    // A connection that is older than the trace may have had it.
    let late = match case.is_ephemeral(port) {
        Some(true) => {
            "; it is one that clients use as well, so these may be late segments of an old connection"
        }
        Some(false) | None => "",
    };
    let (seen, advice) = match case.stats().scanned.listeners {
        0 => (
            format!(
                "{refused} segments were answered by a reset, because nothing listens on the port{late}"
            ),
            "start the service, or find out who still connects to it (the capture shows the clients)",
        ),
        _ => (
            format!(
                "{refused} segments were answered by a reset, and no connection was established, although something listens on the port"
            ),
            "compare the address of the listener with the one that the clients connect to (the capture shows it)",
        ),
    };
    Some(Evidence::new(refused, seen, advice).look_at(Look::Row).capture(Capture::Handshakes))
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
