//! TIME_WAITs that were due when the kernel's table was full.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use super::row_key::RowKey;
use crate::trace::{ids::NetnsId, time::Nanos};

/// Connections that ended with a TIME_WAIT due while the kernel's table was full. Nothing shows which
/// of them still got a place; the kernel's counter (`TCPTimeWaitOverflow`) tells later how many did
/// not.
#[derive(Debug, Default)]
pub(crate) struct UnconfirmedTimeWaits(HashMap<NetnsId, UnconfirmedEndpoints, FxBuildHasher>);

#[derive(Debug, Default)]
struct UnconfirmedEndpoints {
    ends: Vec<(Nanos, RowKey)>,
    /// Overflows that the kernel counted before the record of the end arrived.
    overflows: u64,
}

/// Maximum number per namespace.
const LIMIT: usize = 1 << 16;

impl UnconfirmedTimeWaits {
    pub(crate) fn add(&mut self, row: RowKey, netns: NetnsId, time: Nanos) {
        let UnconfirmedEndpoints { ends, .. } = self.0.entry(netns).or_default();
        if ends.len() < LIMIT {
            ends.push((time, row));
        }
    }

    /// Removes one for which no TIME_WAIT was due after all.
    pub(crate) fn take_back(&mut self, row: RowKey, netns: NetnsId, time: Nanos) {
        if let Some(UnconfirmedEndpoints { ends, .. }) = self.0.get_mut(&netns)
            && let Some(place) = ends.iter().rposition(|&end| end == (time, row))
        {
            ends.remove(place);
        }
    }

    /// The kernel counted `overflows` between two times. Returns the rows of the ends between them,
    /// each with whether it overflowed: overflows are spread evenly.
    pub(crate) fn settle(
        &mut self,
        netns: NetnsId,
        (from, to): (Nanos, Nanos),
        overflows: u64,
    ) -> Vec<(RowKey, bool)> {
        let Some(unconfirmed) = self.0.get_mut(&netns) else {
            return Vec::new();
        };
        let ends = std::mem::take(&mut unconfirmed.ends);
        let (past, rest): (Vec<_>, Vec<_>) = ends.into_iter().partition(|&(time, _)| time <= to);
        unconfirmed.ends = rest;
        let rows: Vec<_> =
            past.into_iter().filter(|&(time, _)| time > from).map(|(_, row)| row).collect();

        let all = rows.len() as u64;
        let overflows = overflows.saturating_add(unconfirmed.overflows);
        let found_none = overflows.min(all);
        unconfirmed.overflows = overflows - found_none;
        if unconfirmed.ends.is_empty() && unconfirmed.overflows == 0 {
            self.0.remove(&netns);
        }
        let up_to = |index: u64| index * found_none / all.max(1);
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
        unconfirmed.take_back(row(443), 1, 12);
        unconfirmed.take_back(row(80), 1, 12);
        for (time, port) in [(5, 80), (11, 80), (12, 443), (13, 80), (14, 443), (21, 80)] {
            unconfirmed.add(row(port), 1, time);
        }
        // The one before the first count cannot be settled, the last one is settled by the next.
        let settled = unconfirmed.settle(1, (10, 20), 2);
        assert_eq!(
            settled,
            [(row(80), false), (row(443), true), (row(80), false), (row(443), true)]
        );
        assert_eq!(unconfirmed.settle(2, (10, 20), 7), []);
        // One was counted a moment before its end.
        assert_eq!(unconfirmed.settle(1, (20, 30), 2), [(row(80), true)]);
        unconfirmed.add(row(80), 1, 31);
        assert_eq!(unconfirmed.settle(1, (30, 40), 0), [(row(80), true)]);
    }
}
