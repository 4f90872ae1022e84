//! The rules about connections that wait for accept(), or find no room to wait.

use std::time::Duration;

use super::{
    case::{Case, Evidence, Since, pct, span},
    thresholds::{ACCEPT_QUEUE_PCT, LEAST, UNACCEPTED},
};

/// Since when connections have waited and none was accepted, if that is too long, as a statement.
fn unaccepted(case: &Case<'_>) -> Option<(Since, String)> {
    let time = case.stats().unaccepted?;
    let length = Duration::from_nanos(time.length());
    // A single worker may be busy for a while.
    let is_long = length >= if time.waiting >= LEAST { UNACCEPTED } else { 5 * UNACCEPTED };
    let since = if time.at_least { Since::Before } else { Since::At };
    let which = match case.stats().scanned.listeners {
        0 | 1 => String::new(),
        listeners => format!(" on one of {listeners} listeners"),
    };
    let least = if time.at_least { "≥" } else { "" };
    let text = format!("accept() has taken none for {least}{}{which}", span(length));
    is_long.then(|| (since(time.since), text))
}

pub(super) fn accept_queue_overflow(case: &Case<'_>) -> Option<Evidence> {
    let (overflows, peak) = (case.counters().accept_overflows, case.stats().accept_peak);
    let limit = case.stats().scanned.accept_limit;
    if overflows == 0 || limit == 0 || peak < limit {
        return None;
    }
    let mut seen = format!(
        "{overflows} segments were dropped while {peak} connections waited for accept(); the limit is {limit}"
    );
    let (since, advice) = match unaccepted(case) {
        Some((since, text)) => {
            seen += &format!("; {text}");
            (since, "find out why accept() is not called: the process hangs, or all its workers are busy".to_owned())
        }
        None => (
            Since::Unknown,
            format!(
                "raise the application's listen() backlog and {}, or accept() faster",
                case.sysctl("net.core.somaxconn")
            ),
        ),
    };
    Some(Evidence::new(overflows, seen, advice).since(since))
}

pub(super) fn nobody_accepts(case: &Case<'_>) -> Option<Evidence> {
    let (since, text) = unaccepted(case)?;
    let (waiting, limit) = (case.stats().scanned.accept_queue, case.stats().scanned.accept_limit);
    if waiting == 0 || accept_queue_overflow(case).is_some() {
        return None;
    }
    let seen = format!("{waiting} connections wait for accept(); {text}; the limit is {limit}");
    let advice = "find out what the process does instead: it hangs, waits for something else, or all its workers are busy (strace -p, gdb -p, /proc/PID/stack)";
    Some(Evidence::new(waiting, seen, advice).since(since))
}

pub(super) fn accept_queue_fills(case: &Case<'_>) -> Option<Evidence> {
    let (overflows, peak) = (case.counters().accept_overflows, case.stats().accept_peak);
    let limit = case.stats().scanned.accept_limit;
    let fills = limit > 0 && peak >= LEAST && pct(peak, limit) >= ACCEPT_QUEUE_PCT;
    if overflows > 0 || !fills || nobody_accepts(case).is_some() {
        return None;
    }
    let seen = format!(
        "new connections found up to {peak} others that waited for accept(); the limit is {limit}"
    );
    let advice = format!(
        "find out why accept() is slow, or raise the listen() backlog and {}",
        case.sysctl("net.core.somaxconn")
    );
    Some(Evidence::new(peak, seen, advice))
}
