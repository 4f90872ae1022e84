//! The protocol buffers of Prometheus (`io.prometheus.client`, <https://github.com/prometheus/client_model>):
//! as the text, and native histograms beside the classic ones.

use prost::Message;

use super::{Durations, Kind, Metric, Sample, Value};
use crate::trace::time::ClockAnchor;

/// Each metric, after its length.
pub(super) fn write<'a>(
    all: impl Iterator<Item = (&'a Metric, Vec<Sample>)>,
    start: ClockAnchor,
) -> Vec<u8> {
    let mut written = Vec::new();
    for (metric, samples) in all {
        let samples = samples.into_iter().map(|sample| one(metric.kind, sample, start)).collect();
        let family = model::MetricFamily {
            name: metric.name.into(),
            help: metric.help.into(),
            kind: match metric.kind {
                Kind::Counter => model::MetricType::Counter,
                Kind::Gauge => model::MetricType::Gauge,
                Kind::Histogram => model::MetricType::Histogram,
            }
            .into(),
            metric: samples,
        };
        written.extend(family.encode_length_delimited_to_vec());
    }
    written
}

fn one(kind: Kind, sample: Sample, start: ClockAnchor) -> model::Metric {
    let Sample { labels, value } = sample;
    let labels =
        labels.into_iter().map(|(name, value)| model::LabelPair { name: name.into(), value });
    let created = Some(model::Timestamp {
        seconds: (start.realtime_ns / 1_000_000_000).cast_signed(),
        nanos: (start.realtime_ns % 1_000_000_000) as i32,
    });
    let metric = model::Metric { label: labels.collect(), ..model::Metric::default() };
    let number = match value {
        Value::Count(count) => count as f64,
        Value::Number(number) => number,
        Value::Durations(took) => {
            return model::Metric { histogram: Some(histogram(&took, created)), ..metric };
        }
    };
    match kind {
        Kind::Counter => {
            let counter = model::Counter { value: number, created_timestamp: created };
            model::Metric { counter: Some(counter), ..metric }
        }
        Kind::Gauge | Kind::Histogram => {
            model::Metric { gauge: Some(model::Gauge { value: number }), ..metric }
        }
    }
}

/// Resolution of native histograms: 2³ buckets per power of two, each 9 % wide.
const SCHEMA: i32 = 3;

/// 2⁻¹²⁸, as other clients have. Some versions of Prometheus take a histogram whose threshold is 0 and
/// which has no durations for one that is only classic, with all of its metric.
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

fn histogram(took: &Durations, created: Option<model::Timestamp>) -> model::Histogram {
    let bounds = took.bounds().zip(&took.up_to);
    let classic = bounds
        .map(|(upper_bound, &cumulative_count)| model::Bucket { cumulative_count, upper_bound });
    let mut native = model::Histogram {
        sample_count: took.count(),
        sample_sum: took.seconds(),
        bucket: classic.collect(),
        schema: SCHEMA,
        zero_threshold: ZERO_THRESHOLD,
        zero_count: took.fine.iter().filter(|(end, _)| *end == 0).map(|(_, count)| count).sum(),
        created_timestamp: created,
        ..model::Histogram::default()
    };
    // Runs of buckets in a row; the count of each is the difference to the one before.
    let (mut next, mut before) = (None, 0);
    for (index, count) in buckets(took) {
        match (next, native.positive_span.last_mut()) {
            (Some(next), Some(span)) if next == index => span.length += 1,
            (next, _) => {
                let offset = index - next.unwrap_or(0);
                native.positive_span.push(model::BucketSpan { offset, length: 1 });
            }
        }
        native.positive_delta.push(count - before);
        (next, before) = (Some(index + 1), count);
    }
    native
}

/// Index and count of each bucket that is not empty: bucket *i* ends at 2^(*i* / 2^[`SCHEMA`]) seconds.
#[expect(clippy::cast_possible_truncation, reason = "the logarithm of a u64 is small")]
fn buckets(took: &Durations) -> Vec<(i32, i64)> {
    let mut buckets: Vec<(i32, i64)> = Vec::new();
    for &(end, count) in took.fine.iter().filter(|(end, _)| *end > 0) {
        let index = ((end as f64 / 1e6).log2() * f64::from(1 << SCHEMA)).ceil() as i32;
        match buckets.last_mut() {
            Some((last, sum)) if *last == index => *sum += count.cast_signed(),
            _ => buckets.push((index, count.cast_signed())),
        }
    }
    buckets
}

/// The messages; fields of no use here are left out.
mod model {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct MetricFamily {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) help: String,
        #[prost(enumeration = "MetricType", tag = "3")]
        pub(super) kind: i32,
        #[prost(message, repeated, tag = "4")]
        pub(super) metric: Vec<Metric>,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub(super) enum MetricType {
        Counter = 0,
        Gauge = 1,
        Histogram = 4,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Metric {
        #[prost(message, repeated, tag = "1")]
        pub(super) label: Vec<LabelPair>,
        #[prost(message, optional, tag = "2")]
        pub(super) gauge: Option<Gauge>,
        #[prost(message, optional, tag = "3")]
        pub(super) counter: Option<Counter>,
        #[prost(message, optional, tag = "7")]
        pub(super) histogram: Option<Histogram>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct LabelPair {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Gauge {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Counter {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
        #[prost(message, optional, tag = "3")]
        pub(super) created_timestamp: Option<Timestamp>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Histogram {
        #[prost(uint64, tag = "1")]
        pub(super) sample_count: u64,
        #[prost(double, tag = "2")]
        pub(super) sample_sum: f64,
        #[prost(message, repeated, tag = "3")]
        pub(super) bucket: Vec<Bucket>,
        #[prost(sint32, tag = "5")]
        pub(super) schema: i32,
        #[prost(double, tag = "6")]
        pub(super) zero_threshold: f64,
        #[prost(uint64, tag = "7")]
        pub(super) zero_count: u64,
        #[prost(message, repeated, tag = "12")]
        pub(super) positive_span: Vec<BucketSpan>,
        #[prost(sint64, repeated, tag = "13")]
        pub(super) positive_delta: Vec<i64>,
        #[prost(message, optional, tag = "15")]
        pub(super) created_timestamp: Option<Timestamp>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Bucket {
        #[prost(uint64, tag = "1")]
        pub(super) cumulative_count: u64,
        #[prost(double, tag = "2")]
        pub(super) upper_bound: f64,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct BucketSpan {
        #[prost(sint32, tag = "1")]
        pub(super) offset: i32,
        #[prost(uint32, tag = "2")]
        pub(super) length: u32,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Timestamp {
        #[prost(int64, tag = "1")]
        pub(super) seconds: i64,
        #[prost(int32, tag = "2")]
        pub(super) nanos: i32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{metrics::BOUNDS_US, tracker::LatencyHistogram};

    #[test]
    fn a_native_histogram_has_each_duration_in_its_bucket() {
        let mut durations = LatencyHistogram::default();
        let values = [0, 90, 90, 100, 1_000_000, 1_000_001, 15_000_000];
        values.into_iter().for_each(|us| durations.add(us));
        let native = histogram(&Durations::new(&durations, BOUNDS_US), None);
        assert_eq!((native.sample_count, native.zero_count), (7, 1));
        // Reads it as Prometheus does.
        let (mut index, mut count) = (0, 0);
        let mut deltas = native.positive_delta.iter();
        let mut found = Vec::new();
        for span in &native.positive_span {
            index += span.offset;
            for _ in 0..span.length {
                count += deltas.next().expect("a bucket");
                found.push((2_f64.powf(f64::from(index) / 8.0), count));
                index += 1;
            }
        }
        assert_eq!(found.iter().map(|(_, count)| count).sum::<i64>(), 6);
        for us in values.into_iter().skip(1) {
            let seconds = us as f64 / 1e6;
            let bucket = found.iter().find(|(end, _)| seconds <= *end * 1.0001);
            let (end, _) = bucket.unwrap_or_else(|| panic!("{us} µs is above {found:?}"));
            assert!(seconds > end / 1.11, "{us} µs is far below {end} s");
        }
    }
}
