//! Use of the ephemeral ports toward one destination, and the time until they are exhausted.

use std::net::IpAddr;

use super::time_wait::{LENGTH, SECOND};
use crate::trace::{
    scan::{EphemeralPorts, TimeWaitReuse},
    time::Nanos,
};

/// Length of a TIME_WAIT in seconds.
const TIME_WAIT: u64 = LENGTH / SECOND;

/// Minimum length of an interval, in seconds, for a meaningful rate.
const MIN_INTERVAL: f64 = 0.5;

/// Number of interval lengths for which the rates of an interval are extrapolated: a second of
/// growth says nothing about the next five minutes.
pub(crate) const EXTRAPOLATION: f64 = 30.0;

/// Maximum time, in seconds, for which rates are extrapolated. Nobody acts on a later exhaustion, and
/// the load of a host rarely stays the same for longer.
pub(crate) const HORIZON: f64 = 3600.0;

/// Use of the ephemeral ports toward a destination, by the local address that has the fewest left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ephemeral {
    /// The local address; `None` if no client is connected to the destination now.
    pub local: Option<IpAddr>,
    /// The destination's address.
    pub remote: IpAddr,
    /// Ports in use: by connections, attempts, TIME_WAITs and orphans in FIN_WAIT2, and ports that
    /// bind() took.
    pub used: u64,
    /// Number of ephemeral ports.
    pub ports: u64,
    /// Whether all destinations share these ports, because the clients call bind() before connect().
    pub is_shared: bool,
    /// Seconds until all are used, at the interval's rates; `None` if that is not foreseeable within
    /// 30 times the interval and one hour.
    pub exhausted_in: Option<f64>,
}

impl Ephemeral {
    /// The share of used ports. It can exceed 1 if attempts whose port is not known yet will fail.
    pub fn share(&self) -> f64 {
        if self.ports == 0 { 1.0 } else { self.used as f64 / self.ports as f64 }
    }
}

/// The interval whose rates are extrapolated.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateInterval {
    /// Its end (CLOCK_MONOTONIC, nanoseconds).
    pub(super) end: Nanos,
    /// Its length in seconds.
    pub(super) seconds: f64,
}

/// How the use of some ports changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Trend {
    /// Ports in use.
    pub(super) used: u64,
    /// Growth of the ports in use other than by TIME_WAIT, within the interval.
    pub(super) growth: f64,
    /// The ends of the TIME_WAITs among the ports in use (CLOCK_MONOTONIC, nanoseconds).
    pub(super) time_waits: Vec<Nanos>,
}

impl Trend {
    /// Seconds until `ports` are used. `can_reuse`: a TIME_WAIT blocks its port only as long as the
    /// settings say for this destination, not for its whole length.
    pub(super) fn exhausted_in(
        &self,
        settings: &EphemeralPorts,
        can_reuse: Option<IpAddr>,
        interval: RateInterval,
    ) -> Option<f64> {
        let RateInterval { end, seconds } = interval;
        let is_reused = match settings.reuse {
            TimeWaitReuse::Never => false,
            TimeWaitReuse::Loopback => can_reuse.is_some_and(|remote| remote.is_loopback()),
            TimeWaitReuse::Always => can_reuse.is_some(),
        };
        // Seconds for which a TIME_WAIT blocks its port.
        let blocked_s = match is_reused {
            true => u64::from(settings.reuse_after_ms).div_ceil(1000).min(TIME_WAIT),
            false => TIME_WAIT,
        };
        let mut remaining: Vec<u64> =
            self.time_waits.iter().map(|expiry| expiry.saturating_sub(end)).collect();
        remaining.sort_unstable();
        // The number of TIME_WAITs that still block their ports after this time.
        let blocked_after = |second: u64| {
            let ended = (second + TIME_WAIT - blocked_s) * SECOND;
            remaining.len() - remaining.partition_point(|&left| left <= ended)
        };
        let others = self.used.saturating_sub(self.time_waits.len() as u64) as f64;
        let ports = f64::from(settings.count());
        if others + blocked_after(0) as f64 >= ports {
            return Some(0.0);
        }
        if seconds < MIN_INTERVAL {
            return None;
        }
        // Those that began in the interval and still exist; if ports are reused, only the youngest
        // are sure to be complete.
        let entered = |window: f64| self.entered_within(window, end) / window;
        let entered_per_s = entered(seconds).max(entered(seconds.min(blocked_s.max(1) as f64)));
        let growth_per_s = self.growth / seconds;
        let taken_after = |second: u64| {
            let new = entered_per_s * second.min(blocked_s) as f64;
            (others + growth_per_s * second as f64).max(0.0) + blocked_after(second) as f64 + new
        };
        let horizon = HORIZON.min(EXTRAPOLATION * seconds);
        let soon = (0..=TIME_WAIT).find(|&second| taken_after(second) >= ports);
        // After that all present TIME_WAITs have ended, and only the number of connections grows.
        let later = || {
            let left = ports - taken_after(TIME_WAIT);
            (growth_per_s > 0.0).then(|| TIME_WAIT as f64 + left / growth_per_s)
        };
        soon.map(|second| second as f64).or_else(later).filter(|&seconds| seconds <= horizon)
    }

    /// Number of TIME_WAITs that began within the last `window` seconds.
    fn entered_within(&self, window: f64, end: Nanos) -> f64 {
        let entered = self.time_waits.iter().filter(|&&expiry| {
            let age = (end.saturating_add(LENGTH)).saturating_sub(expiry);
            age as f64 <= window * SECOND as f64
        });
        entered.count() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMOTE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5));
    const NOW: Nanos = 1_000 * SECOND;

    fn settings(reuse: TimeWaitReuse) -> EphemeralPorts {
        EphemeralPorts { first: 1001, last: 2000, reserved: 0, reuse, reuse_after_ms: 1000 }
    }

    /// TIME_WAITs that end in these seconds, each with its number.
    fn time_waits(ends: &[(u64, usize)]) -> Vec<Nanos> {
        ends.iter().flat_map(|&(left, count)| vec![NOW + left * SECOND; count]).collect()
    }

    fn exhausted(trend: &Trend, reuse: TimeWaitReuse, remote: IpAddr, seconds: f64) -> Option<f64> {
        trend.exhausted_in(&settings(reuse), Some(remote), RateInterval { end: NOW, seconds })
    }

    #[test]
    fn time_waits_level_off_after_a_minute() {
        let after = |per_s| {
            let ends: Vec<_> = (50..60).map(|left| (left, per_s)).collect();
            let steady = Trend { used: 0, growth: 0.0, time_waits: time_waits(&ends) };
            let used = steady.time_waits.len() as u64;
            exhausted(&Trend { used, ..steady }, TimeWaitReuse::Never, REMOTE, 10.0)
        };
        // 10 a second: 600 of 1000 ports in the end. 20 a second would be 1200.
        assert_eq!([after(10), after(20)], [None, Some(40.0)]);
    }

    #[test]
    fn time_waits_that_expire_free_ports() {
        let after = |new| {
            let time_waits = time_waits(&[(10, 500), (50, 300), (60, new)]);
            let used = 100 + time_waits.len() as u64;
            let now = Trend { used, growth: 0.0, time_waits };
            exhausted(&now, TimeWaitReuse::Never, REMOTE, 1.0)
        };
        // In the seconds before the first 500 are over, there are 9 times as many new ones.
        assert_eq!([after(8), after(12)], [None, Some(8.0)]);
    }

    #[test]
    fn a_time_wait_that_can_be_reused_blocks_no_port() {
        let waiting =
            Trend { used: 990, growth: 0.0, time_waits: time_waits(&[(30, 970), (59, 20)]) };
        let exhausted = |reuse, remote| exhausted(&waiting, reuse, remote, 10.0);
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(exhausted(TimeWaitReuse::Always, REMOTE), None);
        assert_eq!(exhausted(TimeWaitReuse::Loopback, loopback), None);
        assert_eq!(exhausted(TimeWaitReuse::Loopback, REMOTE), Some(5.0));
        // bind() never reuses one.
        let interval = RateInterval { end: NOW, seconds: 10.0 };
        let bound = waiting.exhausted_in(&settings(TimeWaitReuse::Always), None, interval);
        assert_eq!(bound, Some(5.0));
    }

    #[test]
    fn rates_are_extrapolated_for_thirty_intervals_and_an_hour_at_most() {
        let leak = |used, growth, seconds| {
            let leak = Trend { used, growth, time_waits: Vec::new() };
            exhausted(&leak, TimeWaitReuse::Always, REMOTE, seconds)
        };
        assert_eq!(leak(800, 10.0, 10.0), Some(200.0));
        assert_eq!(leak(500, 10.0, 10.0), None);
        assert_eq!(leak(500, 20.0, 20.0), Some(500.0));
        assert_eq!([leak(0, 1000.0, 3600.0), leak(0, 999.0, 3600.0)], [Some(3600.0), None]);
        // A single look shows no rates, but that nothing is left.
        assert_eq!([leak(999, 10.0, 0.01), leak(1000, 10.0, 0.01)], [None, Some(0.0)]);
    }
}
