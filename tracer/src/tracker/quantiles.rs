//! A histogram with its exact count and maximum. Buckets are relative: a percentile is at most
//! 1.6 % above the truth, and never above the maximum.

use histogram::Histogram;

/// 2⁶ buckets per power of two.
const GROUPING_POWER: u8 = 6;
/// Values up to 2⁴⁰ µs, twelve days; a longer one counts as that.
const MAX_POWER: u8 = 40;

/// Durations in microseconds. Takes no memory to speak of until something is added.
#[derive(Clone, Debug, Default)]
pub struct Durations {
    buckets: Option<Box<Histogram>>,
    count: u64,
    max: u64,
}

impl Durations {
    /// Adds one.
    pub fn add(&mut self, us: u64) {
        let us = us.min((1 << MAX_POWER) - 1);
        // Cannot fail: the value is within the range.
        let _ = self.histogram().increment(us);
        self.count += 1;
        self.max = self.max.max(us);
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        if let Some(buckets) = &other.buckets {
            // Cannot fail: both have the same configuration, and counts of u64 do not overflow.
            let _ = self.histogram().checked_add_assign(buckets);
            self.count += other.count;
            self.max = self.max.max(other.max);
        }
    }

    /// How many were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest.
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }

    /// The value that a share of `quantile` (0 to 1) does not exceed.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let bucket = self.buckets.as_ref()?.quantile_bucket(quantile).ok()??;
        Some(bucket.end().min(self.max))
    }

    /// The buckets that are not empty: upper bound (inclusive) and count.
    pub fn buckets(&self) -> Vec<(u64, u64)> {
        let buckets = self.buckets.iter().flat_map(|histogram| histogram.iter());
        buckets
            .filter(|bucket| bucket.count() > 0)
            .map(|bucket| (bucket.end(), bucket.count()))
            .collect()
    }

    fn histogram(&mut self) -> &mut Histogram {
        self.buckets.get_or_insert_with(|| {
            Box::new(Histogram::new(GROUPING_POWER, MAX_POWER).expect("the powers are in range"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_close_and_the_maximum_is_exact() {
        let mut durations = Durations::default();
        assert_eq!((durations.quantile(0.5), durations.max()), (None, None));
        for us in 1..=10_000 {
            durations.add(us);
        }
        for (quantile, exact) in [(0.5, 5_000.0), (0.9, 9_000.0), (0.99, 9_900.0)] {
            let found = durations.quantile(quantile).unwrap() as f64;
            assert!((0.0..=0.016).contains(&(found / exact - 1.0)), "{quantile}: {found}");
        }
        assert_eq!(durations.quantile(1.0), Some(10_000));
        assert_eq!(durations.max(), Some(10_000));
        assert_eq!(durations.buckets().iter().map(|(_, count)| count).sum::<u64>(), 10_000);
    }
}
