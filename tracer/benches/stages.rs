//! The time of each stage that needs no kernel: decoder, tracker, histograms, reports.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    reason = "a benchmark with a wrong number fails"
)]
#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use std::{hint::black_box, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use synfin::{
    tcp::group_by::By,
    trace::{decode::decode, event::Input, recording::Frame, scan::ScannedTimeWait},
    tracker::{LatencyHistogram, Limits, Tracker},
};
use synfin_common::{
    event::Flags,
    state::TcpState::{
        Close, CloseWait, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent,
    },
};
use synfin_testkit::{RecordedKernel, Socket};

const CONNECTIONS: u64 = 10_000;
const TIME_WAITS: u32 = 100_000;

/// Connections of a client and a server, ten transitions each, from few clients to few ports.
fn connections() -> Vec<Frame> {
    let mut kernel = RecordedKernel::begin();
    for number in 0..CONNECTIONS {
        let client = format!("192.0.2.{}:{}", number % 16, 32_768 + number % 28_000);
        let server = format!("198.51.100.1:{}", 443 + number % 4);
        let (theirs, ours) = (2 * number, 2 * number + 1);
        let (client, server) =
            (Socket::between(theirs, &client, &server), Socket::between(ours, &server, &client));
        kernel.at(number / 10).opens(client, (Close, SynSent), Some((700, b"curl")));
        kernel.opens(server, (Listen, SynRecv), None);
        kernel.establishes(client, SynSent, 250, 0, Flags(0));
        kernel.establishes(server, SynRecv, 250, 0, Flags(0));
        kernel.moves(client, (Established, FinWait1));
        kernel.moves(server, (Established, CloseWait));
        kernel.moves(client, (FinWait1, FinWait2));
        kernel.moves(server, (CloseWait, LastAck));
        kernel.closes_with(client, FinWait2, |end| end.flags = Flags::FIN_RECEIVED);
        kernel.closes_with(server, LastAck, |end| end.flags = Flags::FIN_RECEIVED);
    }
    kernel.end_batch();
    kernel.into_frames()
}

fn time_waits() -> Vec<Frame> {
    let found = (0..TIME_WAITS).map(|number| {
        Input::ScannedTimeWait(ScannedTimeWait {
            fin_wait2: false,
            port_by_connect: Some(true),
            local: ([192, 0, 2, (number / 28_000) as u8], 32_768 + (number % 28_000) as u16).into(),
            remote: ([198, 51, 100, 1], 443).into(),
            remaining_ms: 30_000,
        })
    });
    let mut kernel = RecordedKernel::begin();
    kernel.scan_host(found);
    kernel.into_frames()
}

fn tracker() -> Tracker {
    Tracker::new(Limits::default(), RecordedKernel::BEGIN)
}

fn replay(tracker: &mut Tracker, frames: &[Frame]) {
    for frame in frames {
        decode(frame, |input| tracker.apply(&input));
    }
}

fn transitions(criterion: &mut Criterion) {
    let frames = connections();
    let mut group = criterion.benchmark_group("transitions");
    group.throughput(Throughput::Elements(10 * CONNECTIONS));
    group.bench_function("decoded", |bencher| {
        bencher
            .iter(|| frames.iter().for_each(|frame| decode(frame, |input| drop(black_box(input)))));
    });
    group.bench_function("decoded and tracked", |bencher| {
        bencher.iter_with_large_drop(|| {
            let mut tracker = tracker();
            replay(&mut tracker, &frames);
            tracker
        });
    });
}

fn scans(criterion: &mut Criterion) {
    let frames = time_waits();
    let mut tracker = tracker();
    replay(&mut tracker, &frames);
    let mut group = criterion.benchmark_group("scan");
    group.throughput(Throughput::Elements(TIME_WAITS.into()));
    group.bench_function("over known TIME_WAITs", |bencher| {
        bencher.iter(|| replay(&mut tracker, &frames));
    });
}

fn distributions(criterion: &mut Criterion) {
    let mut full = LatencyHistogram::default();
    (0..100_000_u64).for_each(|value| full.add(value * value % 1_000_003));
    let mut group = criterion.benchmark_group("distribution");
    group.bench_function("add", |bencher| {
        let (mut distribution, mut value) = (LatencyHistogram::default(), 1_u64);
        bencher.iter(|| {
            value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            distribution.add(value >> 44);
        });
    });
    group.bench_function("merge", |bencher| {
        let merge = |mut sum: LatencyHistogram| {
            sum.merge(black_box(&full));
            sum
        };
        bencher.iter_batched(|| full.clone(), merge, BatchSize::SmallInput);
    });
    group.bench_function("p99", |bencher| bencher.iter(|| black_box(&full).quantile(0.99)));
}

fn reports(criterion: &mut Criterion) {
    let mut tracker = tracker();
    replay(&mut tracker, &connections());
    criterion.bench_function("report", |bencher| {
        bencher.iter(|| tracker.take_snapshot().rows(By::Port));
    });
}

criterion_group! {
    name = stages;
    config = Criterion::default().measurement_time(Duration::from_secs(3));
    targets = transitions, scans, distributions, reports
}
criterion_main!(stages);
