//! All that is looked for. A new finding is added here.

use std::time::Duration;

use synfin_common::{reset::ResetReason, state::TcpState};

use super::{
    Case, Evidence, Rule,
    thresholds::{
        ACCEPT_QUEUE_PCT, CLOSE_WAIT_AGE, EPHEMERAL_PCT, EPHEMERAL_SOON, IDLE, LEAST, LISTENER_GAP,
        RETRANSMITTED_PCT, SHARE_PCT,
    },
};
use crate::{
    tcp::{close_reason::CloseReason, role::Role},
    trace::ids::HOST_NETNS,
    tracker::Common,
};

/// Every rule, the most urgent first.
pub const RULES: &[Rule] = &[
    Rule {
        id: "accept_queue_overflow",
        title: "the accept queue overflows",
        when: "a listener dropped something, and more waited for accept() than its limit allows or as many",
        matters: "SYNs and last ACKs are dropped: clients wait a second and more for their handshake, \
            or are told that it is through and get no answer",
        look: accept_queue_overflow,
    },
    Rule {
        id: "accept_queue_fills",
        title: "the accept queue fills",
        when: "75 % of its limit waited for accept() on one listener, and nothing was dropped",
        matters: "if it overflows, handshakes take a second and more",
        look: accept_queue_fills,
    },
    Rule {
        id: "ports_run_out",
        title: "the ephemeral ports toward a destination run out",
        when: "80 % of them are taken, or none will be left within 5 minutes, or connect() found none",
        matters: "when none is left connect() fails with EADDRNOTAVAIL, and before that it takes \
            long to find one",
        look: ports_run_out,
    },
    Rule {
        id: "close_wait_leak",
        title: "connections are not closed after the peer has closed",
        when: "5 connections and more are in CLOSE_WAIT, the oldest for 30 s and longer",
        matters: "each holds a socket and a file descriptor until the process ends, and one day \
            there is none left",
        look: close_wait_leak,
    },
    Rule {
        id: "connect_timeout",
        title: "nobody answers SYNs",
        when: "5 attempts and more, and 1 % of all, got no answer to any SYN",
        matters: "the application waits for minutes, by default, before it learns that",
        look: connect_timeout,
    },
    Rule {
        id: "connect_refused",
        title: "connections are refused",
        when: "5 attempts and more, and 1 % of all, were answered by a reset or by ICMP",
        matters: "nothing serves these clients, or a filter answers for it",
        look: connect_refused,
    },
    Rule {
        id: "listener_gone",
        title: "nobody listened for a while",
        when: "the port had no listener for 10 ms and longer, and somebody was reset: clients that \
            came, or connections that waited for accept() when it closed",
        matters: "a restart that lets go of its listener refuses whoever comes meanwhile, and \
            resets whoever was not accepted yet",
        look: listener_gone,
    },
    Rule {
        id: "handshakes_retransmit",
        title: "handshakes are lost on the way",
        when: "5 handshakes and more, and 1 % of all, had to send a SYN or a SYN-ACK again",
        matters: "each that is lost costs its connection a second or more",
        look: handshakes_retransmit,
    },
    Rule {
        id: "idle_dropped",
        title: "idle connections are dropped on the way",
        when: "5 connections and more ended by a reset of the peer's or by a timeout, half of them \
            after 20 s and longer without a segment",
        matters: "the first one to write after a silence loses its connection, and may wait for \
            minutes to learn it",
        look: idle_dropped,
    },
    Rule {
        id: "time_wait_overflow",
        title: "there are more TIME_WAITs than may be",
        when: "a TIME_WAIT found no room",
        matters: "connections end without it: late segments can harm the next one, and a lost last \
            ACK is answered with a reset",
        look: time_wait_overflow,
    },
    Rule {
        id: "unread_data",
        title: "connections are closed with unread data",
        when: "5 connections and more, and 1 % of all, were closed before all was read that had come",
        matters: "the peer gets a reset, and may lose what was sent to it before",
        look: unread_data,
    },
    Rule {
        id: "reset_by_peer",
        title: "peers reset connections in use",
        when: "5 connections and more, and 1 % of all, were reset by the peer before either side closed",
        matters: "what was on its way is lost",
        look: reset_by_peer,
    },
];

/// `part` of `whole` as a percentage.
fn pct(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// As people write it: `0.4 %`, `37 %`.
fn percent(part: u64, whole: u64) -> String {
    let pct = pct(part, whole);
    if pct < 10.0 { format!("{pct:.1} %") } else { format!("{pct:.0} %") }
}

/// `12.3 s` or `4.5 min`.
fn span(us: u64) -> String {
    let duration = Duration::from_micros(us);
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        1..=119 => format!("{:.1} s", duration.as_secs_f64()),
        seconds => format!("{} min", seconds / 60),
    }
}

impl Case<'_> {
    fn ended(&self, reasons: &[CloseReason]) -> u64 {
        reasons.iter().map(|&reason| self.row.row.stats.counters.ended(reason)).sum()
    }

    fn is(&self, role: Role) -> bool {
        self.row.row.identity.role == role
    }

    /// A setting, with its value where that is known: each namespace has its own.
    fn sysctl(&self, name: &str) -> String {
        let is_hosts =
            matches!(&self.row.row.identity.netns_name, Common::One(name) if **name == *HOST_NETNS);
        let value = self.sysctls.get(name).filter(|_| is_hosts);
        let value = value.map(|value| value.split_whitespace().collect::<Vec<_>>());
        value.map_or_else(|| name.to_owned(), |value| format!("{name} ({})", value.join(" ")))
    }

    /// Attempts that came to an end in the interval, one way or another.
    fn tried(&self) -> u64 {
        self.row.row.stats.counters.established + self.row.row.stats.counters.failed()
    }

    /// If there are enough of these among all, what is to be said of them.
    fn share(count: u64, all: u64, what: &str) -> Option<String> {
        let is_pattern = count >= LEAST && pct(count, all) >= SHARE_PCT;
        is_pattern.then(|| format!("{count} of {all} {what} ({})", percent(count, all)))
    }
}

fn accept_queue_overflow(case: &Case<'_>) -> Option<Evidence> {
    let row = &case.row.row;
    let (drops, peak, limit) =
        (row.stats.counters.listener_drops, row.stats.accept_peak, row.stats.scanned.accept_limit);
    (drops > 0 && limit > 0 && peak >= limit).then(|| Evidence {
        what: format!(
            "{drops} segments were dropped while {peak} connections waited for accept(); {limit} may"
        ),
        since: None,
        knob: format!(
            "raise the application's listen() backlog and {}, or accept() faster",
            case.sysctl("net.core.somaxconn")
        ),
    })
}

fn accept_queue_fills(case: &Case<'_>) -> Option<Evidence> {
    let row = &case.row.row;
    let (drops, peak, limit) =
        (row.stats.counters.listener_drops, row.stats.accept_peak, row.stats.scanned.accept_limit);
    (drops == 0 && limit > 0 && peak >= LEAST && pct(peak, limit) >= ACCEPT_QUEUE_PCT).then(|| {
        Evidence {
            what: format!("{peak} connections waited for accept() at once; {limit} may"),
            since: None,
            knob: format!(
                "see why accept() is slow, or raise the listen() backlog and {}",
                case.sysctl("net.core.somaxconn")
            ),
        }
    })
}

fn ports_run_out(case: &Case<'_>) -> Option<Evidence> {
    let row = &case.row.row;
    let failed = case.ended(&[CloseReason::ConnectLocalFailure]);
    let ports = row.stats.ephemeral.as_ref()?;
    let soon = ports.exhausted_in.filter(|&seconds| seconds <= EPHEMERAL_SOON.as_secs_f64());
    if failed == 0 && soon.is_none() && pct(ports.used, ports.ports) < EPHEMERAL_PCT {
        return None;
    }
    let in_time_wait = row.stats.time_wait_now.min(ports.used);
    let mostly = if 2 * in_time_wait > ports.used { ", mostly by TIME_WAIT" } else { "" };
    let mut what = format!(
        "{} of {} ports toward {} are taken ({}){mostly}",
        ports.used,
        ports.ports,
        ports.remote,
        percent(ports.used, ports.ports)
    );
    if failed > 0 {
        what += &format!("; {failed} times connect() found none");
    } else if let Some(seconds) = soon {
        what += &format!("; at this rate none is left in {}", span(seconds_to(1e6, seconds)));
    }
    let knob = format!(
        "keep connections open and use them again; or widen {}, connect from several addresses, or set {} to 1",
        case.sysctl("net.ipv4.ip_local_port_range"),
        case.sysctl("net.ipv4.tcp_tw_reuse")
    );
    Some(Evidence { what, since: None, knob })
}

fn close_wait_leak(case: &Case<'_>) -> Option<Evidence> {
    let count = case.row.row.stats.gauges.state(TcpState::CloseWait);
    let oldest = case.row.oldest(TcpState::CloseWait)?;
    let age = Duration::from_nanos(case.row.interval.end.saturating_sub(oldest.since));
    if count < LEAST || age < CLOSE_WAIT_AGE {
        return None;
    }
    let least = if oldest.at_least { "at least " } else { "" };
    let age = span(u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
    let whose = oldest.owner.as_ref().map_or_else(
        || "the application".to_owned(),
        |owner| match owner.pid {
            Some(pid) => format!("{} (process {pid})", owner.label.name),
            None => owner.label.name.to_string(),
        },
    );
    Some(Evidence {
        what: format!("{count} connections are in CLOSE_WAIT, the oldest for {least}{age}"),
        since: Some(oldest.since),
        knob: format!(
            "{whose} must close() its socket when read() says that the peer has closed: look for the path on which it does not"
        ),
    })
}

fn connect_timeout(case: &Case<'_>) -> Option<Evidence> {
    let count = case.ended(&[CloseReason::ConnectTimeout]);
    Some(Evidence {
        what: Case::share(count, case.tried(), "attempts got no answer")?,
        since: None,
        knob: format!(
            "see whether the host is up and no firewall drops the SYNs (tcpdump on both ends tells); {} says how long to try",
            case.sysctl("net.ipv4.tcp_syn_retries")
        ),
    })
}

fn connect_refused(case: &Case<'_>) -> Option<Evidence> {
    let by_reset = case.ended(&[CloseReason::ConnectRefusedRst]);
    let by_icmp = case.ended(&[
        CloseReason::ConnectRefusedIcmp,
        CloseReason::ConnectUnreachableHost,
        CloseReason::ConnectUnreachableNet,
    ]);
    let what = Case::share(by_reset + by_icmp, case.tried(), "attempts were refused")?;
    Some(Evidence {
        what: format!("{what}: {by_reset} by a reset, {by_icmp} by ICMP or for want of a route"),
        since: None,
        knob: if by_reset >= by_icmp {
            "see whether the server runs, and listens on that address and port".into()
        } else {
            "see what answers for the host: a firewall that rejects, or a route that ends".into()
        },
    })
}

fn listener_gone(case: &Case<'_>) -> Option<Evidence> {
    let row = &case.row.row;
    if !case.is(Role::Server) {
        return None;
    }
    // A gap is remembered for as long as the row.
    let start = case.row.interval.end.saturating_sub(seconds_to(1e9, case.row.interval.seconds));
    let gap = row
        .stats
        .uptime
        .gap(case.row.interval.end)
        .filter(|_| row.stats.uptime.has_changed_since(start))?;
    let gap = Duration::from_nanos(gap);
    let refused = row.stats.counters.resets(ResetReason::NoSocket);
    let thrown_out = case.ended(&[CloseReason::ResetByUsListenerClosed]);
    if gap < LISTENER_GAP || refused + thrown_out == 0 {
        return None;
    }
    let gap = span(u64::try_from(gap.as_micros()).unwrap_or(u64::MAX));
    Some(Evidence {
        what: format!(
            "nobody listened for {gap}: {refused} clients were refused, {thrown_out} connections that nobody had accepted were reset"
        ),
        since: row.stats.uptime.closed,
        knob: "hand the listener on (socket activation, SO_REUSEPORT with the new one first), and accept() what waits before closing it".into(),
    })
}

fn handshakes_retransmit(case: &Case<'_>) -> Option<Evidence> {
    let counters = &case.row.row.stats.counters;
    let (count, all) = (counters.retransmitted.count(), counters.established);
    if count < LEAST || pct(count, all) < RETRANSMITTED_PCT {
        return None;
    }
    let slow = counters.retransmitted.quantile(0.5).map(span).unwrap_or_default();
    Some(Evidence {
        what: format!(
            "{count} of {all} handshakes ({}) had to send again; half of these took {slow} and longer",
            percent(count, all)
        ),
        since: None,
        knob: match case.row.row.identity.role {
            Role::Client => "see whether the path loses packets or the server drops SYNs: its listen() backlog, net.ipv4.tcp_max_syn_backlog, a rate limit".into(),
            Role::Server => "see whether the path to the clients loses packets, or last ACKs find the accept queue full".into(),
        },
    })
}

fn idle_dropped(case: &Case<'_>) -> Option<Evidence> {
    const SILENT: [CloseReason; 5] = [
        CloseReason::ResetByPeer,
        CloseReason::TimeoutRetransmission,
        CloseReason::TimeoutKeepalive,
        CloseReason::TimeoutUser,
        CloseReason::TimeoutOrphan,
    ];
    let count = case.ended(&SILENT);
    let idle = case.row.row.stats.counters.idle_abnormal.quantile(0.5)?;
    if count < LEAST || Duration::from_micros(idle) < IDLE {
        return None;
    }
    Some(Evidence {
        what: format!(
            "{count} connections ended by a reset or a timeout; half of them had been idle for {} and longer",
            span(idle)
        ),
        since: None,
        knob: format!(
            "something on the way (NAT, firewall, load balancer) forgets idle connections: send keepalives more often than that (SO_KEEPALIVE and TCP_KEEPIDLE, {})",
            case.sysctl("net.ipv4.tcp_keepalive_time")
        ),
    })
}

fn time_wait_overflow(case: &Case<'_>) -> Option<Evidence> {
    let count = case.row.row.stats.counters.time_wait_overflowed;
    (count > 0).then(|| Evidence {
        what: format!("{count} connections found no room for their TIME_WAIT"),
        since: None,
        knob: format!("raise {}", case.sysctl("net.ipv4.tcp_max_tw_buckets")),
    })
}

fn unread_data(case: &Case<'_>) -> Option<Evidence> {
    let count = case.ended(&[CloseReason::ResetByUsUnreadData]);
    Some(Evidence {
        what: Case::share(count, case.row.row.stats.counters.closed(), "connections were closed with unread data")?,
        since: None,
        knob: "the application should read until the peer's end (or shutdown(SHUT_WR), then read) before it closes".into(),
    })
}

fn reset_by_peer(case: &Case<'_>) -> Option<Evidence> {
    if idle_dropped(case).is_some() {
        return None;
    }
    let count = case.ended(&[CloseReason::ResetByPeer]);
    Some(Evidence {
        what: Case::share(count, case.row.row.stats.counters.closed(), "connections were reset by the peer")?,
        since: None,
        knob: "look at the peer's side: it crashed, closed with unread data (synfin there says which), or something between reset both".into(),
    })
}

/// A duration in units of `1 / per_second`, rounded down.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "floats saturate, and a duration is not negative"
)]
fn seconds_to(per_second: f64, seconds: f64) -> u64 {
    (seconds * per_second) as u64
}
