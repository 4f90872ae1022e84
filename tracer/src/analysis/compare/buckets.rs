//! A histogram that is read from a report.

use std::collections::BTreeMap;

/// A histogram: counts by the buckets' upper bounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Buckets(BTreeMap<u64, u64>);

impl Buckets {
    /// Buckets with these upper bounds and counts.
    #[cfg(test)]
    pub(super) fn of(buckets: &[(u64, u64)]) -> Self {
        Self(buckets.iter().copied().collect())
    }

    /// Number of samples.
    pub(super) fn count(&self) -> u64 {
        self.0.values().fold(0, |sum: u64, count| sum.saturating_add(*count))
    }

    pub(super) fn add(&mut self, buckets: Vec<(u64, u64)>) {
        for (bound, count) in buckets {
            let sum = self.0.entry(bound).or_default();
            *sum = sum.saturating_add(count);
        }
    }

    /// The upper bound of the bucket that contains this quantile.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "floats saturate, and a rank is not negative"
    )]
    pub(super) fn quantile(&self, quantile: f64) -> Option<f64> {
        let wanted = (quantile * self.count() as f64).ceil().max(1.0) as u64;
        let mut below: u64 = 0;
        let found = self.0.iter().find(|&(_, count)| {
            below = below.saturating_add(*count);
            below >= wanted
        });
        found.map(|(&bound, _)| bound as f64)
    }
}
