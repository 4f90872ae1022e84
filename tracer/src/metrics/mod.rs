//! Metrics: what adds up since the trace began and what is so now, per role and service port, for
//! whoever collects them. Names follow Prometheus: base units, `_total`, whole histograms, labels of
//! which there is a limited number.

pub(crate) mod budget;
#[cfg(feature = "live")]
pub(crate) mod otlp;
pub(crate) mod prometheus;
pub(crate) mod registry;
pub(crate) mod series;
#[cfg(feature = "live")]
pub(crate) mod serve;

#[cfg(feature = "live")]
pub use otlp::request;
pub use prometheus::{Form, write};
pub use registry::METRICS;
use registry::{RowSamples, per_row};
pub use series::{DEFAULT_SERIES, Metrics, OTHER};

use crate::tracker::LatencyHistogram;

/// One metric: all that is said of it, and its samples.
pub struct Metric {
    /// Its name, without what the text forms add.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// How it behaves.
    pub kind: Kind,
    collect: Collect,
}

/// How samples are made.
enum Collect {
    /// All of them.
    Host(fn(&Metrics, &mut Samples)),
    /// Those of each row.
    Row(fn(&mut RowSamples<'_>)),
}

impl Metric {
    /// Its samples.
    pub fn samples(&self, metrics: &Metrics) -> Vec<Sample> {
        let mut samples = Samples::default();
        match self.collect {
            Collect::Host(collect) => collect(metrics, &mut samples),
            Collect::Row(collect) => per_row(metrics, &mut samples, collect),
        }
        samples.0
    }
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bound, in seconds.
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A value under its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name and value of each.
    pub labels: Vec<(&'static str, String)>,
    /// What is measured.
    pub value: Value,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A count.
    Count(u64),
    /// A share or a time.
    Number(f64),
    /// How long things took.
    Durations(Durations),
}

/// A histogram of durations over [`BOUNDS_US`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durations {
    /// How many there are up to each bound, and at the end all.
    pub up_to: [u64; BOUNDS_US.len() + 1],
    /// All of them together, microseconds.
    pub sum_us: u64,
}

/// Upper bounds in microseconds, from a switch's delay to the retransmissions of a SYN (after 1, 3, 7
/// and 15 s).
pub const BOUNDS_US: [u64; 17] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 3_000_000, 7_000_000, 15_000_000,
];

impl Durations {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.up_to[BOUNDS_US.len()]
    }

    /// All of them together.
    pub fn seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// [`BOUNDS_US`], in seconds.
    pub fn bounds() -> [f64; BOUNDS_US.len()] {
        BOUNDS_US.map(|us| us as f64 / 1e6)
    }
}

impl From<&LatencyHistogram> for Durations {
    /// What lies in one bucket with a bound counts as longer: that bound is 1.6 % too low at most.
    fn from(distribution: &LatencyHistogram) -> Self {
        let buckets = distribution.buckets();
        let mut up_to = [distribution.count(); BOUNDS_US.len() + 1];
        for (count, bound) in up_to.iter_mut().zip(BOUNDS_US) {
            let within = buckets.iter().take_while(|(end, _)| *end <= bound);
            *count = within.map(|(_, count)| count).sum();
        }
        Self { up_to, sum_us: distribution.sum() }
    }
}

/// Samples in the making.
#[derive(Default)]
struct Samples(Vec<Sample>);

impl Samples {
    fn add(&mut self, labels: &[(&'static str, &str)], value: Value) {
        let labels = labels.iter().map(|&(name, value)| (name, value.to_owned())).collect();
        self.0.push(Sample { labels, value });
    }
}
