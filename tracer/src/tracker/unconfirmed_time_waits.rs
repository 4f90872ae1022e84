//! TIME_WAITs that were due when the kernel's table was full.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use super::row_key::RowKey;
use crate::trace::{ids::NetnsId, time::Nanos};

/// Closes for which a TIME_WAIT was due while the kernel's table was full. No record shows which of
/// them still got a place. The kernel's counter (`TCPTimeWaitOverflow`) later shows how many did
/// not.
#[derive(Debug, Default)]
pub(crate) struct UnconfirmedTimeWaits(HashMap<NetnsId, UnconfirmedCloses, FxBuildHasher>);

#[derive(Debug, Default)]
struct UnconfirmedCloses {
    closes: Vec<(Nanos, RowKey)>,
    /// Overflows that the kernel counted before the records of the closes arrived.
    overflows: u64,
}

/// Maximum number per namespace.
const LIMIT: usize = 1 << 16;

impl UnconfirmedTimeWaits {
    pub(crate) fn add(&mut self, row: RowKey, netns: NetnsId, time: Nanos) {
        let UnconfirmedCloses { closes, .. } = self.0.entry(netns).or_default();
        if closes.len() < LIMIT {
            closes.push((time, row));
        }
    }

    /// Removes a close for which no TIME_WAIT was due after all.
    pub(crate) fn remove(&mut self, row: RowKey, netns: NetnsId, time: Nanos) {
        if let Some(UnconfirmedCloses { closes, .. }) = self.0.get_mut(&netns)
            && let Some(index) = closes.iter().rposition(|&close| close == (time, row))
        {
            closes.remove(index);
        }
    }

    /// Resolves the closes between two times, between which the kernel counted `overflows`. Returns
    /// their rows, each with whether it overflowed: overflows are spread evenly.
    pub(crate) fn resolve(
        &mut self,
        netns: NetnsId,
        (from, to): (Nanos, Nanos),
        overflows: u64,
    ) -> Vec<(RowKey, bool)> {
        let Some(unconfirmed) = self.0.get_mut(&netns) else {
            return Vec::new();
        };
        let closes = std::mem::take(&mut unconfirmed.closes);
        let (past, rest): (Vec<_>, Vec<_>) = closes.into_iter().partition(|&(time, _)| time <= to);
        unconfirmed.closes = rest;
        let rows: Vec<_> =
            past.into_iter().filter(|&(time, _)| time > from).map(|(_, row)| row).collect();

        let all = rows.len() as u64;
        let overflows = overflows.saturating_add(unconfirmed.overflows);
        let overflowed = overflows.min(all);
        unconfirmed.overflows = overflows - overflowed;
        if unconfirmed.closes.is_empty() && unconfirmed.overflows == 0 {
            self.0.remove(&netns);
        }
        let up_to = |index: u64| index * overflowed / all.max(1);
        (0..).zip(rows).map(|(index, row)| (row, up_to(index + 1) > up_to(index))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::role::Role;

    #[test]
    fn the_kernels_counter_decides_how_many_overflowed() {
        let row = |port| RowKey::of_port(1, Role::Server, port);
        let mut unconfirmed = UnconfirmedTimeWaits::default();
        unconfirmed.add(row(80), 1, 12);
        unconfirmed.remove(row(443), 1, 12);
        unconfirmed.remove(row(80), 1, 12);
        for (time, port) in [(5, 80), (11, 80), (12, 443), (13, 80), (14, 443), (21, 80)] {
            unconfirmed.add(row(port), 1, time);
        }
        // The close before the first count cannot be resolved; the last one needs the next count.
        let resolved = unconfirmed.resolve(1, (10, 20), 2);
        assert_eq!(
            resolved,
            [(row(80), false), (row(443), true), (row(80), false), (row(443), true)]
        );
        assert_eq!(unconfirmed.resolve(2, (10, 20), 7), []);
        // An overflow was counted just before the close.
        assert_eq!(unconfirmed.resolve(1, (20, 30), 2), [(row(80), true)]);
        unconfirmed.add(row(80), 1, 31);
        assert_eq!(unconfirmed.resolve(1, (30, 40), 0), [(row(80), true)]);
    }
}
