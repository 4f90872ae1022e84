//! Metrics per role and service port: counters since the start of the trace, and gauges. Names follow
//! Prometheus: base units, `_total`, whole histograms, and labels with a bounded number of values.

pub(crate) mod budget;
#[cfg(feature = "live")]
pub(crate) mod otlp;
#[cfg(feature = "live")]
pub(crate) mod prometheus;
#[cfg(feature = "live")]
mod protobuf;
pub(crate) mod registry;
pub(crate) mod series;
#[cfg(feature = "live")]
pub(crate) mod serve;

#[cfg(feature = "live")]
pub use otlp::request;
#[cfg(feature = "live")]
pub use prometheus::{Form, write};
pub use registry::METRICS;
use registry::{RowSamples, per_row};
pub use series::{DEFAULT_SERIES, Metrics, OTHER};

use crate::tracker::LatencyHistogram;

/// The definition of a metric.
pub struct Metric {
    /// The name, without suffixes of the text formats.
    pub name: &'static str,
    /// The help text.
    pub help: &'static str,
    /// Its type.
    pub kind: Kind,
    collect: Collect,
}

/// The source of a metric's samples.
enum Collect {
    /// Collects samples of the whole host.
    Host(fn(&Metrics, &mut Samples)),
    /// Collects the samples of each row.
    Row(fn(&mut RowSamples<'_>)),
}

impl Metric {
    /// Collects its samples.
    pub fn samples(&self, metrics: &Metrics) -> Vec<Sample> {
        let mut samples = Samples::default();
        match self.collect {
            Collect::Host(collect) => collect(metrics, &mut samples),
            Collect::Row(collect) => per_row(metrics, &mut samples, collect),
        }
        samples.0
    }
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only increases; the name ends in `_total`.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// Counts by upper bound in seconds.
    Histogram,
}

impl Kind {
    /// The name of the type in Prometheus.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A value with its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Names and values of the labels.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: Value,
}

/// The value of a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A count.
    Count(u64),
    /// A share or a duration in seconds.
    Number(f64),
    /// A histogram of durations.
    Durations(Durations),
}

/// A histogram of durations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durations {
    /// Upper bounds of the buckets in microseconds.
    pub bounds_us: &'static [u64],
    /// Cumulative counts by bound; the last is the total.
    pub up_to: Vec<u64>,
    /// Sum in microseconds.
    pub sum_us: u64,
    /// The original buckets, at most 1.6 % wide: inclusive upper bounds in microseconds and counts.
    pub fine: Vec<(u64, u64)>,
}

/// Upper bounds in microseconds, from the delay of a switch to the retransmissions of a SYN (after
/// 1, 3, 7 and 15 s).
pub const BOUNDS_US: &[u64] = &[
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 3_000_000, 7_000_000, 15_000_000,
];

/// The bounds for handshakes with a retransmission. Hardly any takes less, so that counts of both
/// classes can be added by bound.
pub const RETRANSMITTED_BOUNDS_US: &[u64] = &[500_000, 1_000_000, 3_000_000, 7_000_000, 15_000_000];

impl Durations {
    /// Durations in the bucket that contains a bound count as longer, so that each bound is at most
    /// 1.6 % too low.
    fn new(distribution: &LatencyHistogram, bounds_us: &'static [u64]) -> Self {
        let fine = distribution.buckets();
        let within = |bound: u64| {
            let within = fine.iter().take_while(|(end, _)| *end <= bound);
            within.map(|(_, count)| count).sum()
        };
        let mut up_to: Vec<u64> = bounds_us.iter().copied().map(within).collect();
        up_to.push(distribution.count());
        Self { bounds_us, up_to, sum_us: distribution.sum(), fine }
    }

    /// Number of durations.
    pub fn count(&self) -> u64 {
        self.up_to.last().copied().unwrap_or(0)
    }

    /// Sum in seconds.
    pub fn seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// The bounds in seconds.
    pub fn bounds(&self) -> impl Iterator<Item = f64> {
        self.bounds_us.iter().map(|us| *us as f64 / 1e6)
    }
}

/// Collects the samples of one metric.
#[derive(Default)]
struct Samples(Vec<Sample>);

impl Samples {
    fn add(&mut self, labels: &[(&'static str, &str)], value: Value) {
        let labels = labels.iter().map(|&(name, value)| (name, value.to_owned())).collect();
        self.0.push(Sample { labels, value });
    }
}
