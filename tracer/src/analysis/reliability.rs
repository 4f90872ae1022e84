//! Whether enough was observed for the absence of trouble to mean anything.

use crate::tracker::Events;

/// If more than one in this many records is missing, a result is inconclusive.
const TRUSTED: u64 = 10_000;

/// Why a result is inconclusive that no missing record explains.
pub(crate) const NO_CONNECTION: &str = "no connection was observed";

/// The records that are missing, and all that the hooks produced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MissingRecords {
    missing: u64,
    all: u64,
}

impl MissingRecords {
    /// Records of an interval that were lost, whose hooks the kernel skipped, and that left gaps.
    pub(crate) fn of(events: &Events) -> Self {
        let &Events { seen, lost, missed, gaps, .. } = events;
        Self::new(seen, [lost, missed, gaps])
    }

    pub(crate) fn new(seen: u64, missing: [u64; 3]) -> Self {
        Self { missing: missing.into_iter().fold(0, u64::saturating_add), all: seen }
    }

    pub(crate) fn add(&mut self, later: Self) {
        self.missing = self.missing.saturating_add(later.missing);
        self.all = self.all.saturating_add(later.all);
    }

    /// Why a result is inconclusive; `None` if few are missing.
    pub(crate) fn doubt(self) -> Option<String> {
        let Self { missing, all } = self;
        (missing > all / TRUSTED)
            .then(|| format!("{missing} of {all} records are missing, more than one in {TRUSTED}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missing_record_in_ten_thousand_is_tolerated() {
        let doubt = |seen, missing| MissingRecords::new(seen, missing).doubt();
        assert_eq!(doubt(10_000, [0, 1, 0]), None);
        assert_eq!(doubt(0, [0; 3]), None);
        for missing in [[1, 1, 0], [2, 0, 0], [0, 1, 1]] {
            assert!(doubt(10_000, missing).unwrap().starts_with("2 of 10000"), "{missing:?}");
        }
        assert!(doubt(9_999, [0, 0, 1]).is_some());
        assert!(doubt(u64::MAX, [u64::MAX; 3]).is_some());
    }
}
