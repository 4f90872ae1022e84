//! A histogram with exact count, sum and maximum. Buckets are logarithmic: a quantile is at most
//! 1.6 % above the exact value, and never above the maximum.

use std::borrow::Cow;

use histogram::{Histogram, SparseHistogram};

/// 2⁶ buckets per power of two.
const GROUPING_POWER: u8 = 6;
/// The largest value is 2⁴⁰ µs (twelve days). Larger values count as that.
const MAX_POWER: u8 = 40;

/// Number of recent values that are kept unsorted. Sorting them into buckets costs as much as the
/// maximum number of buckets, so it is done for many values at once.
fn recent_limit(count: u64) -> usize {
    count.clamp(64, 1024) as usize
}

/// A histogram of durations in microseconds, or of queue lengths. Only non-empty buckets take
/// memory, because there may be thousands of rows with a few connections each.
#[derive(Clone, Debug, Default)]
pub struct LatencyHistogram {
    buckets: Option<Box<SparseHistogram>>,
    /// Values that are not in the buckets yet.
    recent: Vec<u64>,
    count: u64,
    sum: u64,
    max: u64,
}

impl LatencyHistogram {
    /// Adds a value.
    pub fn add(&mut self, value: u64) {
        let value = value.min((1 << MAX_POWER) - 1);
        self.recent.push(value);
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        self.max = self.max.max(value);
        self.compact();
    }

    /// Adds all values of another histogram.
    pub fn merge(&mut self, other: &Self) {
        self.recent.extend_from_slice(&other.recent);
        if let Some(more) = &other.buckets {
            self.buckets = Some(match &self.buckets {
                Some(buckets) => Box::new(sum(buckets, more)),
                None => more.clone(),
            });
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
        self.compact();
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sum of all values, saturating.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest value; `None` if there are no values.
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }

    /// The value that the share `quantile` (0 to 1) of all values does not exceed; `None` if there
    /// are no values.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let found = self.all()?.quantile(quantile).ok()??;
        Some(found.entries().values().next()?.end().min(self.max))
    }

    /// The non-empty buckets: inclusive upper bound and count.
    pub fn buckets(&self) -> Vec<(u64, u64)> {
        self.all().map_or_else(Vec::new, |all| {
            all.iter().map(|bucket| (bucket.end(), bucket.count())).collect()
        })
    }

    /// Number of values in buckets from this value on.
    pub fn count_from(&self, least: u64) -> u64 {
        let buckets = self.buckets().into_iter().filter(|&(end, _)| end >= least);
        buckets.map(|(_, count)| count).sum()
    }

    /// Sorts recent values into buckets if there are many.
    fn compact(&mut self) {
        if self.recent.len() >= recent_limit(self.count) {
            self.buckets = self.all().map(|all| Box::new(all.into_owned()));
            self.recent.clear();
        }
    }

    /// All values in buckets; `None` if there are no values.
    fn all(&self) -> Option<Cow<'_, SparseHistogram>> {
        if self.recent.is_empty() {
            return self.buckets.as_deref().map(Cow::Borrowed);
        }
        let mut recent =
            Histogram::new(GROUPING_POWER, MAX_POWER).expect("the powers are in range");
        for &value in &self.recent {
            // Cannot fail: the value is within the range.
            let _ = recent.increment(value);
        }
        let recent = SparseHistogram::from(&recent);
        Some(Cow::Owned(match &self.buckets {
            Some(buckets) => sum(buckets, &recent),
            None => recent,
        }))
    }
}

fn sum(one: &SparseHistogram, other: &SparseHistogram) -> SparseHistogram {
    // Cannot fail: both have the same configuration, and counts of u64 do not overflow.
    one.checked_add(other).unwrap_or_else(|_| one.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_close_and_the_maximum_is_exact() {
        let mut durations = LatencyHistogram::default();
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

    #[test]
    fn parts_add_up_to_the_whole() {
        let of = |range: std::ops::Range<u64>| {
            let mut durations = LatencyHistogram::default();
            range.for_each(|us| durations.add(us * 7));
            durations
        };
        for (middle, end) in [(3, 5), (63, 64), (10, 500), (500, 1_000)] {
            let mut sum = of(0..middle);
            sum.merge(&of(middle..end));
            let whole = of(0..end);
            assert_eq!((sum.count(), sum.max()), (whole.count(), whole.max()));
            assert_eq!(sum.buckets(), whole.buckets());
            assert_eq!(sum.quantile(0.99), whole.quantile(0.99));
        }
    }
}
