//! The rules about handshakes that wait in the SYN queue, or find no room in it.

use super::{
    case::{Capture, Case, Evidence, Look, pct},
    thresholds::{COOKIES_LOST_PCT, LEAST, UNANSWERED_PCT},
};

/// What did not fit into a SYN queue.
struct SynOverflow {
    /// SYNs that were dropped.
    drops: u64,
    /// SYN cookies sent.
    cookies: u64,
    /// SYN cookies that came back.
    returned: u64,
}

impl SynOverflow {
    /// The overflow of a row; `None` if it is too small to matter.
    fn of(case: &Case<'_>) -> Option<Self> {
        let counters = &case.row.stats.counters;
        let (cookies, returned) = (counters.cookies_sent, counters.cookies_returned);
        let overflow = Self { drops: counters.syn_drops, cookies, returned };
        let lost = overflow.cookies_lost();
        let cookies_matter = lost >= LEAST && pct(lost, cookies) >= COOKIES_LOST_PCT;
        (overflow.drops >= LEAST || cookies_matter).then_some(overflow)
    }

    /// Number of SYN cookies that did not come back.
    fn cookies_lost(&self) -> u64 {
        self.cookies.saturating_sub(self.returned)
    }

    /// Whether SYNs are dropped rather than answered by SYN cookies.
    fn drops_mostly(&self) -> bool {
        self.drops > self.cookies
    }

    fn evidence(&self, case: &Case<'_>, advice: String) -> Evidence {
        let count = self.drops.saturating_add(self.cookies_lost());
        Evidence::new(count, self.seen(case), advice)
            .look_at(Look::Row)
            .capture(Capture::Handshakes)
    }

    fn seen(&self, case: &Case<'_>) -> String {
        let Self { drops, cookies, returned } = self;
        let stats = &case.row.stats;
        let mut seen = Vec::new();
        if *drops > 0 {
            let cookies = if *cookies == 0 { " and no SYN cookies were sent" } else { "" };
            seen.push(format!("{drops} SYNs were dropped because the SYN queue was full{cookies}"));
        }
        if *cookies > 0 {
            seen.push(format!(
                "{cookies} SYNs were answered by SYN cookies, of which {returned} came back"
            ));
        }
        seen.push(format!(
            "up to {} handshakes were half-open at once, {} completed",
            stats.half_open_peak, stats.counters.established
        ));
        seen.join("; ")
    }
}

pub(super) fn syn_flood(case: &Case<'_>) -> Option<Evidence> {
    let overflow = SynOverflow::of(case)?;
    if case.row.stats.counters.established >= overflow.drops.saturating_add(overflow.cookies_lost())
    {
        return None;
    }
    let filter = "filter the SYNs before they reach this host (their sources are often spoofed)";
    let backlog = case.sysctl("net.ipv4.tcp_max_syn_backlog");
    let advice = if overflow.drops_mostly() {
        format!(
            "set {} to 1, so that a full SYN queue refuses nobody; {filter}; raise {backlog} and the listen() backlog",
            case.sysctl("net.ipv4.tcp_syncookies")
        )
    } else {
        format!(
            "SYN cookies hold: legitimate clients can connect; {filter}; a higher {backlog} and listen() backlog need fewer cookies"
        )
    };
    Some(overflow.evidence(case, advice))
}

pub(super) fn syn_queue_overflow(case: &Case<'_>) -> Option<Evidence> {
    let overflow = SynOverflow::of(case).filter(SynOverflow::drops_mostly)?;
    if syn_flood(case).is_some() {
        return None;
    }
    let advice = format!(
        "raise {} and the listen() backlog ({}), or set {} to 1",
        case.sysctl("net.ipv4.tcp_max_syn_backlog"),
        case.sysctl("net.core.somaxconn"),
        case.sysctl("net.ipv4.tcp_syncookies")
    );
    Some(overflow.evidence(case, advice))
}

pub(super) fn half_open_unanswered(case: &Case<'_>) -> Option<Evidence> {
    let stats = &case.row.stats;
    let (counters, half_open) = (&stats.counters, stats.half_open_peak);
    // The last ACKs arrive, but find the accept queue full.
    if counters.accept_overflows > 0 || SynOverflow::of(case).is_some() {
        return None;
    }
    let sent_again = counters.synack_retransmits;
    let unanswered = sent_again.saturating_sub(counters.retransmitted.count());
    let all = unanswered.saturating_add(counters.established);
    if half_open < LEAST || unanswered < LEAST || pct(unanswered, all) < UNANSWERED_PCT {
        return None;
    }
    let seen = format!(
        "up to {half_open} handshakes were half-open at once, {sent_again} SYN-ACKs were sent again, {} handshakes completed",
        counters.established
    );
    let advice = format!(
        "check whether the SYN-ACKs reach the clients (an asymmetric route, a firewall that drops them: tcpdump on both ends); if the sources of the SYNs are spoofed, this is a SYN flood that still fits into the SYN queue ({})",
        case.sysctl("net.ipv4.tcp_max_syn_backlog")
    );
    Some(Evidence::new(half_open, seen, advice).look_at(Look::Row).capture(Capture::Handshakes))
}
