//! The ephemeral port settings of the network namespace of the calling thread.

use crate::trace::scan::{EphemeralPorts, TimeWaitReuse};

/// The fixed reuse delay before Linux 6.14, which added the sysctl `tcp_tw_reuse_delay`.
const USUAL_REUSE_DELAY_MS: u32 = 1000;

/// Reads the settings. Returns `None` if they cannot be read.
pub(crate) fn read() -> Option<EphemeralPorts> {
    // `/proc/sys/net` shows the settings of the calling thread's namespace.
    let setting = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok();
    let range = setting("ip_local_port_range")?;
    let mut ends = range.split_whitespace().map_while(|port| port.parse().ok());
    let (first, last) = (ends.next()?, ends.next()?);
    let reserved = setting("ip_local_reserved_ports").unwrap_or_default();
    Some(EphemeralPorts {
        first,
        last,
        reserved: reserved_within(&reserved, first, last),
        reuse: match setting("tcp_tw_reuse")?.trim() {
            "0" => TimeWaitReuse::Never,
            "1" => TimeWaitReuse::Always,
            _ => TimeWaitReuse::Loopback,
        },
        reuse_after_ms: setting("tcp_tw_reuse_delay")
            .and_then(|delay| delay.trim().parse().ok())
            .unwrap_or(USUAL_REUSE_DELAY_MS),
    })
}

/// Counts the ports of a list such as `8080,9100-9199` that lie within a range.
fn reserved_within(list: &str, first: u16, last: u16) -> u16 {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        Some((from.parse::<u16>().ok()?.max(first), to.parse::<u16>().ok()?.min(last)))
    });
    ranges.filter(|(from, to)| from <= to).map(|(from, to)| to - from + 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_outside_the_range_do_not_count() {
        let within = |list| reserved_within(list, 32768, 60999);
        assert_eq!(within(""), 0);
        assert_eq!(within("8080,40000"), 1);
        assert_eq!(within("32000-32770,50000-50009,60999-65535\n"), 14);
    }
}
