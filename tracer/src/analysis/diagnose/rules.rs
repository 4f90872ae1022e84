//! The rules of `diagnose`. A new finding is added here.

use std::time::Duration;

use synfin_common::{reset::ResetReason, state::TcpState};

use super::{
    Case, Evidence, Rule,
    ephemeral_ports::ports_run_out,
    pct, percent, span,
    syn_queue::{half_open_unanswered, syn_flood, syn_queue_overflow},
    thresholds::{
        ACCEPT_QUEUE_PCT, CLOSE_WAIT_AGE, IDLE, LEAST, LISTENER_GAP, RETRANSMITTED_PCT, SHARE_PCT,
    },
};
use crate::{
    tcp::{close_reason::CloseReason, role::Role},
    trace::{ids::HOST_NETNS, time::Nanos},
    tracker::Common,
};

/// All rules, the most urgent first.
pub const RULES: &[Rule] = &[
    Rule {
        id: "syn_flood",
        title: "a SYN flood fills the SYN queue",
        when: "at least 5 SYNs were dropped because the SYN queue was full, or at least 5 SYN cookies, and half of all, did not come back; and fewer handshakes completed than that",
        matters: "without SYN cookies the SYNs of legitimate clients are dropped as well: they wait \
            for seconds or cannot connect; with SYN cookies they connect, with fewer TCP options",
        check: syn_flood,
    },
    Rule {
        id: "syn_queue_overflow",
        title: "the SYN queue overflows",
        when: "at least 5 SYNs were dropped because the SYN queue was full, and at least as many handshakes completed",
        matters: "a client whose SYN is dropped waits a second or more for its handshake",
        check: syn_queue_overflow,
    },
    Rule {
        id: "accept_queue_overflow",
        title: "the accept queue overflows",
        when: "connections found no room in the accept queue, and at least as many as its limit allows waited for accept()",
        matters: "SYNs and last ACKs are dropped: clients wait a second or more for their handshake, \
            or consider themselves connected and get no answer",
        check: accept_queue_overflow,
    },
    Rule {
        id: "accept_queue_fills",
        title: "the accept queue is filling up",
        when: "at least 75 % of a listener's limit waited for accept(), and none found the queue full",
        matters: "once it overflows, handshakes take a second or more",
        check: accept_queue_fills,
    },
    Rule {
        id: "half_open_unanswered",
        title: "nobody completes half-open handshakes",
        when: "at least 5 handshakes were half-open at once, and at least 5 SYN-ACKs were retransmitted without an answer, 10 % of these and of completed handshakes; and neither queue overflowed",
        matters: "the clients cannot connect, or somebody sends SYNs only to fill the SYN queue",
        check: half_open_unanswered,
    },
    Rule {
        id: "ports_run_out",
        title: "ephemeral ports toward a destination are running out",
        when: "at least 80 % are in use, they will be exhausted within 5 minutes (at most 30 times the interval), or connect() found none",
        matters: "without a free port connect() fails with EADDRNOTAVAIL, and before that it searches \
            long for one",
        check: ports_run_out,
    },
    Rule {
        id: "close_wait_leak",
        title: "the application does not close connections that the peer has closed",
        when: "at least 5 connections are in CLOSE_WAIT, the oldest for at least 30 s",
        matters: "each one holds a socket and a file descriptor until the process ends or has none \
            left",
        check: close_wait_leak,
    },
    Rule {
        id: "connect_timeout",
        title: "SYNs get no answer",
        when: "at least 5 attempts, and 1 % of all, got no answer to any SYN",
        matters: "by default the application waits for minutes before connect() fails",
        check: connect_timeout,
    },
    Rule {
        id: "connect_refused",
        title: "connections are refused",
        when: "at least 5 attempts, and 1 % of all, were answered by a reset or by ICMP",
        matters: "no service accepts these clients, or a firewall rejects them",
        check: connect_refused,
    },
    Rule {
        id: "listener_gone",
        title: "the port had no listener for a while",
        when: "the port had no listener for at least 10 ms, and clients were reset meanwhile, or \
            connections that waited for accept() when it closed",
        matters: "a restart that closes its listener refuses new clients and resets connections \
            that were not accepted yet",
        check: listener_gone,
    },
    Rule {
        id: "handshakes_retransmit",
        title: "segments of handshakes are lost",
        when: "at least 5 handshakes, and 1 % of all, retransmitted a SYN or a SYN-ACK",
        matters: "each loss delays its connection by a second or more",
        check: handshakes_retransmit,
    },
    Rule {
        id: "idle_dropped",
        title: "a device on the path drops idle connections",
        when: "at least 5 connections ended by a reset from the peer or by a timeout, half of them \
            after 20 s or longer without a segment",
        matters: "the first write after an idle period loses its connection, and may take minutes to \
            fail",
        check: idle_dropped,
    },
    Rule {
        id: "time_wait_overflow",
        title: "the TIME_WAIT table overflows",
        when: "a connection closed without TIME_WAIT because the kernel's table was full",
        matters: "without TIME_WAIT late segments can harm the next connection, and a lost last ACK \
            ends in a reset",
        check: time_wait_overflow,
    },
    Rule {
        id: "unread_data",
        title: "connections are closed with unread data",
        when: "at least 5 connections, and 1 % of all, were closed before all received data was read",
        matters: "the peer gets a reset, and may lose data that was sent to it before",
        check: unread_data,
    },
    Rule {
        id: "reset_by_peer",
        title: "peers reset connections that are in use",
        when: "at least 5 connections, and 1 % of all, were reset by the peer before either side closed",
        matters: "data in flight is lost",
        check: reset_by_peer,
    },
];

/// A percentage as text: `0.4 %`, `37 %`.
impl Case<'_> {
    pub(super) fn ended(&self, reasons: &[CloseReason]) -> u64 {
        reasons.iter().map(|&reason| self.row.row.stats.counters.ended(reason)).sum()
    }

    fn is(&self, role: Role) -> bool {
        self.row.row.identity.role == role
    }

    /// A setting, with its value in the host's namespace. The values of other namespaces are not
    /// known.
    pub(super) fn sysctl(&self, name: &str) -> String {
        let is_host =
            matches!(&self.row.row.identity.netns_name, Common::One(name) if **name == *HOST_NETNS);
        let value = self.sysctls.get(name).filter(|_| is_host);
        let value = value.map(|value| value.split_whitespace().collect::<Vec<_>>());
        value.map_or_else(|| name.to_owned(), |value| format!("{name} ({})", value.join(" ")))
    }

    /// Attempts that succeeded or failed in the interval.
    fn attempts(&self) -> u64 {
        self.row.row.stats.counters.established + self.row.row.stats.counters.failed()
    }

    /// The statement about `count` of `all` connections; `None` if these are too few to matter.
    fn share(count: u64, all: u64, what: &str) -> Option<String> {
        let is_pattern = count >= LEAST && pct(count, all) >= SHARE_PCT;
        is_pattern.then(|| format!("{count} of {all} {what} ({})", percent(count, all)))
    }
}

fn accept_queue_overflow(case: &Case<'_>) -> Option<Evidence> {
    let row = &case.row.row;
    let (overflows, peak, limit) = (
        row.stats.counters.accept_overflows,
        row.stats.accept_peak,
        row.stats.scanned.accept_limit,
    );
    (overflows > 0 && limit > 0 && peak >= limit).then(|| Evidence {
        seen: format!(
            "{overflows} segments were dropped while {peak} connections waited for accept(); the limit is {limit}"
        ),
        since: None,
        advice: format!(
            "raise the application's listen() backlog and {}, or accept() faster",
            case.sysctl("net.core.somaxconn")
        ),
    })
}

fn accept_queue_fills(case: &Case<'_>) -> Option<Evidence> {
    let row = &case.row.row;
    let (overflows, peak, limit) = (
        row.stats.counters.accept_overflows,
        row.stats.accept_peak,
        row.stats.scanned.accept_limit,
    );
    (overflows == 0 && limit > 0 && peak >= LEAST && pct(peak, limit) >= ACCEPT_QUEUE_PCT).then(
        || Evidence {
            seen: format!("{peak} connections waited for accept() at once; the limit is {limit}"),
            since: None,
            advice: format!(
                "find out why accept() is slow, or raise the listen() backlog and {}",
                case.sysctl("net.core.somaxconn")
            ),
        },
    )
}

fn close_wait_leak(case: &Case<'_>) -> Option<Evidence> {
    let count = case.row.row.stats.gauges.state(TcpState::CloseWait);
    let oldest = case.row.oldest(TcpState::CloseWait)?;
    let age = Duration::from_nanos(case.row.interval.end.saturating_sub(oldest.since));
    if count < LEAST || age < CLOSE_WAIT_AGE {
        return None;
    }
    let least = if oldest.at_least { "≥" } else { "" };
    let age = span(age);
    let owner = oldest.owner.as_ref().map_or_else(
        || "the application".to_owned(),
        |owner| match owner.pid {
            Some(pid) => format!("{} (process {pid})", owner.label.name),
            None => owner.label.name.to_string(),
        },
    );
    Some(Evidence {
        seen: format!("{count} connections are in CLOSE_WAIT, the oldest for {least}{age}"),
        since: Some(oldest.since),
        advice: format!(
            "{owner} must close() its socket once read() returns 0 (the peer has closed): find the code path that does not"
        ),
    })
}

fn connect_timeout(case: &Case<'_>) -> Option<Evidence> {
    let count = case.ended(&[CloseReason::ConnectTimeout]);
    Some(Evidence {
        seen: Case::share(count, case.attempts(), "attempts got no answer")?,
        since: None,
        advice: format!(
            "check that the host is up and that no firewall drops the SYNs (tcpdump on both ends); {} limits the retries",
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
    let refused = Case::share(by_reset + by_icmp, case.attempts(), "attempts were refused")?;
    Some(Evidence {
        seen: format!("{refused}: {by_reset} by a reset, {by_icmp} by ICMP or for lack of a route"),
        since: None,
        advice: if by_reset >= by_icmp {
            "check that the server runs and listens on that address and port".into()
        } else {
            "find out what answers for the host: a firewall that rejects, or a router without a route".into()
        },
    })
}

fn listener_gone(case: &Case<'_>) -> Option<Evidence> {
    let row = &case.row.row;
    if !case.is(Role::Server) {
        return None;
    }
    // A row keeps its last gap, which may be older than the interval.
    let start = case.row.interval.end.saturating_sub(nanos(case.row.interval.seconds));
    let gap = row
        .stats
        .uptime
        .gap(case.row.interval.end)
        .filter(|_| row.stats.uptime.has_changed_since(start))?;
    let gap = Duration::from_nanos(gap);
    let refused = row.stats.counters.resets(ResetReason::NoSocket);
    let not_accepted = case.ended(&[CloseReason::ResetByUsListenerClosed]);
    if gap < LISTENER_GAP || refused + not_accepted == 0 {
        return None;
    }
    let gap = span(gap);
    Some(Evidence {
        seen: format!(
            "no listener for {gap}: {refused} clients were refused, {not_accepted} connections that were not accepted yet were reset"
        ),
        since: row.stats.uptime.closed,
        advice: "pass the listener on (socket activation; SO_REUSEPORT, opening the new one first), and accept() waiting connections before closing it".into(),
    })
}

fn handshakes_retransmit(case: &Case<'_>) -> Option<Evidence> {
    let counters = &case.row.row.stats.counters;
    let (count, all) = (counters.retransmitted.count(), counters.established);
    if count < LEAST || pct(count, all) < RETRANSMITTED_PCT {
        return None;
    }
    let slow = counters
        .retransmitted
        .quantile(0.5)
        .map(Duration::from_micros)
        .map(span)
        .unwrap_or_default();
    Some(Evidence {
        seen: format!(
            "{count} of {all} handshakes ({}) retransmitted; half of these took {slow} or longer",
            percent(count, all)
        ),
        since: None,
        advice: match case.row.row.identity.role {
            Role::Client => "check whether the path loses packets or the server drops SYNs (listen() backlog, net.ipv4.tcp_max_syn_backlog, a rate limit)".into(),
            Role::Server | Role::Unknown => "check whether the path to the clients loses packets, or last ACKs find the accept queue full".into(),
        },
    })
}

fn idle_dropped(case: &Case<'_>) -> Option<Evidence> {
    const REASONS: [CloseReason; 5] = [
        CloseReason::ResetByPeer,
        CloseReason::TimeoutRetransmission,
        CloseReason::TimeoutKeepalive,
        CloseReason::TimeoutUser,
        CloseReason::TimeoutOrphan,
    ];
    let count = case.ended(&REASONS);
    let idle = case.row.row.stats.counters.idle_abnormal.quantile(0.5)?;
    let idle = Duration::from_micros(idle);
    if count < LEAST || idle < IDLE {
        return None;
    }
    Some(Evidence {
        seen: format!(
            "{count} connections ended by a reset or a timeout; half of them had been idle for {} or longer",
            span(idle)
        ),
        since: None,
        advice: format!(
            "a NAT, firewall or load balancer on the path drops idle connections: send keepalives more often (SO_KEEPALIVE and TCP_KEEPIDLE, {})",
            case.sysctl("net.ipv4.tcp_keepalive_time")
        ),
    })
}

fn time_wait_overflow(case: &Case<'_>) -> Option<Evidence> {
    let count = case.row.row.stats.counters.time_wait_overflowed;
    (count > 0).then(|| Evidence {
        seen: format!("{count} connections closed without TIME_WAIT"),
        since: None,
        advice: format!("raise {}", case.sysctl("net.ipv4.tcp_max_tw_buckets")),
    })
}

fn unread_data(case: &Case<'_>) -> Option<Evidence> {
    let count = case.ended(&[CloseReason::ResetByUsUnreadData]);
    Some(Evidence {
        seen: Case::share(count, case.row.row.stats.counters.closed(), "connections were closed with unread data")?,
        since: None,
        advice: "let the application read until the peer closes (or shutdown(SHUT_WR), then read) before it closes".into(),
    })
}

fn reset_by_peer(case: &Case<'_>) -> Option<Evidence> {
    if idle_dropped(case).is_some() {
        return None;
    }
    let count = case.ended(&[CloseReason::ResetByPeer]);
    Some(Evidence {
        seen: Case::share(count, case.row.row.stats.counters.closed(), "connections were reset by the peer")?,
        since: None,
        advice: "check the peer: it crashed or closed with unread data (synfin on the peer reports which), or a device between reset both sides".into(),
    })
}

/// A duration in nanoseconds, rounded down.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "floats saturate, and a duration is not negative"
)]
fn nanos(seconds: f64) -> Nanos {
    (seconds * 1e9) as Nanos
}
