//! Use of the ephemeral ports toward one destination, and the time until they are exhausted.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::time_wait;
use crate::trace::{
    ids::NetnsId,
    scan::{EphemeralPorts, TimeWaitReuse},
};

/// Length of a TIME_WAIT in seconds.
const TIME_WAIT: u64 = time_wait::LENGTH / 1_000_000_000;

/// Minimum length of an interval, in seconds, for a meaningful rate.
const MIN_INTERVAL: f64 = 0.5;

/// A destination of clients: namespace, address and port. Each can use all ephemeral ports.
pub(super) type DestinationKey = (NetnsId, IpAddr, u16);

/// The sockets toward one destination, summed over its rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Destination {
    /// Connections, including pending ones.
    pub(super) open: u64,
    /// The same at the start of the interval.
    pub(super) open_at_start: u64,
    /// Entries into TIME_WAIT within the interval.
    pub(super) entered: u64,
    /// Number of TIME_WAITs by their remaining seconds.
    pub(super) time_waits: BTreeMap<u64, u64>,
    /// Local addresses. Each can use all ephemeral ports.
    pub(super) sources: BTreeSet<IpAddr>,
}

/// Use of the ephemeral ports toward a destination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ephemeral {
    /// The destination's address.
    pub remote: IpAddr,
    /// Ports taken by connections, attempts and TIME_WAITs.
    pub used: u64,
    /// Number of ephemeral ports, over all local addresses in use.
    pub ports: u64,
    /// Seconds until all are used, at the interval's rates; `None` if that is not foreseeable.
    pub exhausted_in: Option<f64>,
}

impl Ephemeral {
    /// The share of used ports. It can exceed 1, because clients can bind to other ports.
    pub fn share(&self) -> f64 {
        if self.ports == 0 { 1.0 } else { self.used as f64 / self.ports as f64 }
    }
}

impl Destination {
    /// `seconds` is the length of the interval.
    pub(super) fn ephemeral(
        &self,
        remote: IpAddr,
        settings: &EphemeralPorts,
        seconds: f64,
    ) -> Ephemeral {
        let ports = u64::from(settings.count()) * self.sources.len().max(1) as u64;
        let time_waits: u64 = self.time_waits.values().sum();
        Ephemeral {
            remote,
            used: self.open + time_waits,
            ports,
            exhausted_in: self.exhausted_in(remote, settings, ports as f64, seconds),
        }
    }

    /// Extrapolates the interval's rates second by second until all present TIME_WAITs have ended.
    /// After that only the number of connections grows.
    fn exhausted_in(
        &self,
        remote: IpAddr,
        settings: &EphemeralPorts,
        ports: f64,
        seconds: f64,
    ) -> Option<f64> {
        if seconds < MIN_INTERVAL {
            return None;
        }
        let is_reused = match settings.reuse {
            TimeWaitReuse::Never => false,
            TimeWaitReuse::Loopback => remote.is_loopback(),
            TimeWaitReuse::Always => true,
        };
        // Seconds for which a TIME_WAIT blocks its port.
        let blocked_s = match is_reused {
            true => u64::from(settings.reuse_after_ms).div_ceil(1000).min(TIME_WAIT),
            false => TIME_WAIT,
        };
        let entered_per_s = self.entered as f64 / seconds;
        let growth_per_s = (self.open as f64 - self.open_at_start as f64) / seconds;
        let taken_after = |second: u64| {
            // A TIME_WAIT that ends in `left` seconds began TIME_WAIT - left seconds ago.
            let still_blocks = |left: u64| left > second && TIME_WAIT + second < left + blocked_s;
            let old = self.time_waits.iter().filter(|&(&left, _)| still_blocks(left));
            let old: u64 = old.map(|(_, count)| count).sum();
            let new = entered_per_s * second.min(blocked_s) as f64;
            (self.open as f64 + growth_per_s * second as f64).max(0.0) + old as f64 + new
        };
        if let Some(second) = (0..=TIME_WAIT).find(|&second| taken_after(second) >= ports) {
            return Some(second as f64);
        }
        let left = ports - taken_after(TIME_WAIT);
        (growth_per_s > 0.0).then(|| TIME_WAIT as f64 + left / growth_per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMOTE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5));

    fn settings(reuse: TimeWaitReuse) -> EphemeralPorts {
        EphemeralPorts { first: 1001, last: 2000, reserved: 0, reuse, reuse_after_ms: 1000 }
    }

    #[test]
    fn time_waits_level_off_after_a_minute() {
        let exhausted = |entered| {
            let steady = Destination { entered, ..Destination::default() };
            steady.ephemeral(REMOTE, &settings(TimeWaitReuse::Never), 10.0).exhausted_in
        };
        // 10 a second: 600 of 1000 ports in the end. 20 a second would be 1200.
        assert_eq!([exhausted(100), exhausted(200)], [None, Some(50.0)]);
    }

    #[test]
    fn time_waits_that_expire_free_ports() {
        let time_waits = BTreeMap::from([(10, 500), (50, 300)]);
        let now = Destination { open: 100, open_at_start: 100, time_waits, ..Default::default() };
        let after = |entered| {
            let now = Destination { entered, ..now.clone() };
            now.ephemeral(REMOTE, &settings(TimeWaitReuse::Never), 1.0)
        };
        // In the second before the first 500 are over, there are 9 times as many new ones.
        assert_eq!((after(9).used, after(9).share(), after(9).exhausted_in), (900, 0.9, None));
        assert_eq!(after(12).exhausted_in, Some(9.0));
    }

    #[test]
    fn a_time_wait_that_can_be_reused_blocks_no_port() {
        let time_waits = BTreeMap::from([(30, 990)]);
        let used = Destination { entered: 200, time_waits, ..Destination::default() };
        let exhausted = |reuse, remote| used.ephemeral(remote, &settings(reuse), 10.0).exhausted_in;
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(exhausted(TimeWaitReuse::Always, REMOTE), None);
        assert_eq!(exhausted(TimeWaitReuse::Loopback, loopback), None);
        assert_eq!(exhausted(TimeWaitReuse::Loopback, REMOTE), Some(1.0));
    }

    #[test]
    fn connections_that_stay_exhaust_the_ports() {
        let leak = Destination { open: 500, open_at_start: 490, ..Destination::default() };
        let found = leak.ephemeral(REMOTE, &settings(TimeWaitReuse::Always), 10.0);
        assert_eq!(found.exhausted_in, Some(500.0));
    }

    #[test]
    fn every_local_address_has_all_ports() {
        let sources = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap()).into();
        let two = Destination { open: 500, sources, ..Destination::default() };
        assert_eq!(two.ephemeral(REMOTE, &settings(TimeWaitReuse::Never), 1.0).share(), 0.25);
    }
}
