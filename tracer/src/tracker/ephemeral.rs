//! How many of the ports that connect() gives out are taken toward one destination, and when the
//! last one will be.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::time_wait;
use crate::trace::{
    ids::NetnsId,
    scan::{EphemeralPorts, TimeWaitReuse},
};

/// How long a TIME_WAIT lasts, seconds.
const TIME_WAIT: u64 = time_wait::LENGTH / 1_000_000_000;

/// Over a shorter interval there is no rate to speak of, seconds.
const LEAST_INTERVAL: f64 = 0.5;

/// Where clients connect to: a port is taken once per destination.
pub(super) type DestinationKey = (NetnsId, IpAddr, u16);

/// What is connected to one destination, summed over its rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Destination {
    /// Sockets with a connection, or with an attempt at one.
    pub(super) live: u64,
    /// The same when the interval began.
    pub(super) live_at_start: u64,
    /// Entries into TIME_WAIT within the interval.
    pub(super) entered: u64,
    /// How many TIME_WAITs end in which second from now.
    pub(super) time_waits: BTreeMap<u64, u64>,
    /// Our addresses: each has all ports.
    pub(super) sources: BTreeSet<IpAddr>,
}

/// How far the ports toward a destination are used up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ephemeral {
    /// The destination's address.
    pub remote: IpAddr,
    /// Ports taken by connections, attempts and TIME_WAITs.
    pub used: u64,
    /// Ports there are, for as many addresses of ours as were seen.
    pub ports: u64,
    /// Seconds until none is left, at the interval's rates; `None`: not to be foreseen.
    pub exhausted_in: Option<f64>,
}

impl Ephemeral {
    /// The share that is used: 1 is all, and more is possible, as clients may choose other ports.
    pub fn share(&self) -> f64 {
        if self.ports == 0 { 1.0 } else { self.used as f64 / self.ports as f64 }
    }
}

impl Destination {
    /// `seconds` is the interval's length.
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
            used: self.live + time_waits,
            ports,
            exhausted_in: self.exhausted_in(remote, settings, ports as f64, seconds),
        }
    }

    /// Goes on at the interval's rates, second by second until every TIME_WAIT of today is over:
    /// from then on only the living become more.
    fn exhausted_in(
        &self,
        remote: IpAddr,
        settings: &EphemeralPorts,
        ports: f64,
        seconds: f64,
    ) -> Option<f64> {
        if seconds < LEAST_INTERVAL {
            return None;
        }
        let is_reused = match settings.reuse {
            TimeWaitReuse::Never => false,
            TimeWaitReuse::Loopback => remote.is_loopback(),
            TimeWaitReuse::Always => true,
        };
        // How long a TIME_WAIT keeps its port from being taken, seconds.
        let keeps = match is_reused {
            true => u64::from(settings.reuse_after_ms).div_ceil(1000).min(TIME_WAIT),
            false => TIME_WAIT,
        };
        let entered_per_s = self.entered as f64 / seconds;
        let growth_per_s = (self.live as f64 - self.live_at_start as f64) / seconds;
        let taken_after = |second: u64| {
            // One that ends in `left` seconds began TIME_WAIT - left seconds ago.
            let still_keeps = |left: u64| left > second && TIME_WAIT + second < left + keeps;
            let old = self.time_waits.iter().filter(|&(&left, _)| still_keeps(left));
            let old: u64 = old.map(|(_, count)| count).sum();
            let new = entered_per_s * second.min(keeps) as f64;
            (self.live as f64 + growth_per_s * second as f64).max(0.0) + old as f64 + new
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
    fn what_expires_makes_room() {
        let time_waits = BTreeMap::from([(10, 500), (50, 300)]);
        let now = Destination { live: 100, live_at_start: 100, time_waits, ..Default::default() };
        let after = |entered| {
            let now = Destination { entered, ..now.clone() };
            now.ephemeral(REMOTE, &settings(TimeWaitReuse::Never), 1.0)
        };
        // In the second before the first 500 are over, there are 9 times as many new ones.
        assert_eq!((after(9).used, after(9).share(), after(9).exhausted_in), (900, 0.9, None));
        assert_eq!(after(12).exhausted_in, Some(9.0));
    }

    #[test]
    fn a_time_wait_that_may_be_reused_is_no_obstacle() {
        let time_waits = BTreeMap::from([(30, 990)]);
        let used = Destination { entered: 200, time_waits, ..Destination::default() };
        let exhausted = |reuse, remote| used.ephemeral(remote, &settings(reuse), 10.0).exhausted_in;
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(exhausted(TimeWaitReuse::Always, REMOTE), None);
        assert_eq!(exhausted(TimeWaitReuse::Loopback, loopback), None);
        assert_eq!(exhausted(TimeWaitReuse::Loopback, REMOTE), Some(1.0));
    }

    #[test]
    fn connections_that_stay_use_up_all_ports_at_last() {
        let leak = Destination { live: 500, live_at_start: 490, ..Destination::default() };
        let found = leak.ephemeral(REMOTE, &settings(TimeWaitReuse::Always), 10.0);
        assert_eq!(found.exhausted_in, Some(500.0));
    }

    #[test]
    fn every_address_of_ours_has_all_ports() {
        let sources = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap()).into();
        let two = Destination { live: 500, sources, ..Destination::default() };
        assert_eq!(two.ephemeral(REMOTE, &settings(TimeWaitReuse::Never), 1.0).share(), 0.25);
    }
}
