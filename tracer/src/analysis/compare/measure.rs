//! Values that are compared, with the bounds within which chance alone moves them.

use super::buckets::Buckets;

/// Half the width of the bounds in standard deviations: chance makes a difference that large in one of
/// 370 cases.
const DEVIATIONS: f64 = 3.0;

/// A value of a row, and the bounds within which it may be by chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    /// The value.
    pub value: f64,
    /// What is compared: the value, or its rate.
    level: f64,
    low: f64,
    high: f64,
}

impl Measure {
    /// A number of connections in this time, whose rates are compared.
    pub(super) fn total(count: u64, seconds: f64) -> Self {
        let value = count as f64;
        // A single look has no rates.
        if seconds <= 0.0 {
            return Self { value, level: value, low: 0.0, high: f64::INFINITY };
        }
        let (low, high) = poisson(value);
        Self { value, level: value / seconds, low: low / seconds, high: high / seconds }
    }

    /// `count` of `all`, per thousand; `None` of none.
    pub(super) fn share(count: u64, all: u64) -> Option<Self> {
        let (count, all) = (count.min(all) as f64, all as f64);
        (all > 0.0).then(|| Self::per_1000(count / all, wilson(count / all, all)))
    }

    /// Events per thousand of `all`, of which each can have several; `None` of none.
    pub(super) fn events(count: u64, all: u64) -> Option<Self> {
        let (count, all) = (count as f64, all as f64);
        let (low, high) = poisson(count);
        (all > 0.0).then(|| Self::per_1000(count / all, (low / all, high / all)))
    }

    fn per_1000(share: f64, (low, high): (f64, f64)) -> Self {
        let value = 1000.0 * share;
        Self { value, level: value, low: 1000.0 * low, high: 1000.0 * high }
    }

    /// A quantile of a histogram; its bounds are those of its rank. A rank beyond the samples may have
    /// any value.
    pub(super) fn quantile(of: &Buckets, quantile: f64) -> Option<Self> {
        let count = of.count() as f64;
        let off = DEVIATIONS * (quantile * (1.0 - quantile) / count.max(1.0)).sqrt();
        let [least, most] = [quantile - off, quantile + off];
        let low = if least > 0.0 { of.quantile(least)? } else { 0.0 };
        let high = if most < 1.0 { of.quantile(most)? } else { f64::INFINITY };
        let value = of.quantile(quantile)?;
        Some(Self { value, level: value, low, high })
    }

    /// Whether the values differ by more than chance explains: by more than the bounds of their
    /// difference, which follow from theirs (R. G. Newcombe, Statistics in Medicine 17, 1998).
    pub(super) fn differs_from(self, other: Self) -> bool {
        let (less, more) = if self.level < other.level { (self, other) } else { (other, self) };
        more.level - less.level > (more.level - more.low).hypot(less.high - less.level)
    }

    /// The difference as a share of the larger one, from -1 to 1.
    pub(super) fn growth_to(self, later: Self) -> f64 {
        let larger = self.level.abs().max(later.level.abs());
        if larger == 0.0 { 0.0 } else { (later.level - self.level) / larger }
    }
}

/// The bounds of a count of independent events.
fn poisson(count: f64) -> (f64, f64) {
    let off = DEVIATIONS * (count + 1.0).sqrt();
    ((count - off).max(0.0), count + off)
}

/// The bounds of a share of `all` (Wilson's score interval, which holds for few events as well).
fn wilson(share: f64, all: f64) -> (f64, f64) {
    let square = DEVIATIONS * DEVIATIONS;
    let scale = 1.0 + square / all;
    let middle = (share + square / (2.0 * all)) / scale;
    let variance = share * (1.0 - share) / all + square / (4.0 * all * all);
    let off = DEVIATIONS * variance.sqrt() / scale;
    ((middle - off).max(0.0), (middle + off).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differ(one: Option<Measure>, other: Option<Measure>) -> bool {
        one.zip(other).is_some_and(|(one, other)| one.differs_from(other))
    }

    #[test]
    fn a_change_is_judged_by_its_counts() {
        let share = |count, all| Measure::share(count, all);
        assert!(!differ(share(0, 100), share(1, 100)));
        assert!(!differ(share(10, 1000), share(20, 1000)));
        assert!(differ(share(0, 100), share(5, 5)));
        assert!(differ(share(0, 40), share(13, 40)));
        assert!(!differ(share(0, 40), share(3, 40)));
        assert!(differ(share(10, 1000), share(50, 1000)));
        assert_eq!(share(0, 0), None);
        let events = |count, all| Measure::events(count, all);
        assert!(!differ(events(100, 100), events(130, 100)));
        assert!(differ(events(300, 100), events(600, 100)));
        let total = |count, seconds| Some(Measure::total(count, seconds));
        assert!(!differ(total(100, 10.0), total(10, 1.0)), "the same rate");
        assert!(differ(total(1_000, 10.0), total(1_000, 5.0)));
        assert!(!differ(total(1_000, 0.0), total(10, 5.0)), "a single look");
        let [slow, fast] = [Measure::total(2_000, 100.0), Measure::total(1_000, 10.0)];
        assert!(fast.growth_to(slow) < -0.7, "the rate has fallen");
    }

    #[test]
    fn quantiles_of_few_samples_vary() {
        let of = |value: u64, count: u64| Buckets::of(&[(value, count), (2 * value, 1)]);
        let p99 = |buckets: Buckets| Measure::quantile(&buckets, 0.99);
        let p50 = |buckets: Buckets| Measure::quantile(&buckets, 0.5);
        assert!(!differ(p99(of(2, 76)), p99(of(3, 76))));
        assert!(differ(p50(of(2, 76)), p50(of(3, 76))));
        assert!(differ(p99(of(200, 10_000)), p99(of(300, 10_000))));
        for few in 1..4 {
            let one = Buckets::of(&[(900, few)]);
            assert!(!differ(p50(one), p50(of(3, 10_000))), "{few} samples");
        }
        assert_eq!(p50(Buckets::of(&[])), None);
    }
}
