//! The rate at which this host currently writes records to the ring buffers.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use synfin_common::event::Kind;

use crate::{
    host::clock,
    kernel::{Kernel, RingUse},
    trace::time::nanos,
};

/// Time between two drains of the ring buffers.
const PAUSE: Duration = Duration::from_millis(20);
const BATCH_BYTES: usize = 1 << 20;

/// Counts of a measurement.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rate {
    nanos: u64,
    /// Number of records that the hooks tried to write.
    seen: u64,
    /// Number of these that are state transitions.
    transitions: u64,
    delivered: u64,
    /// What was written to each ring buffer.
    rings: Vec<RingUse>,
    /// The size of a CPU's ring buffer, or of the one that all share.
    ring_bytes: u32,
}

impl Rate {
    pub(super) fn seconds(&self) -> f64 {
        self.nanos as f64 / 1e9
    }

    fn per_second(&self, count: f64) -> f64 {
        if self.nanos == 0 { 0.0 } else { count / self.seconds() }
    }

    pub(super) fn transitions_per_second(&self) -> f64 {
        self.per_second(self.transitions as f64)
    }

    /// Bytes per second of a ring buffer. Lost records are assumed to have the mean size of others.
    fn bytes_per_second(&self, ring: RingUse) -> f64 {
        self.per_second(ring.written as f64 * self.seen as f64 / self.delivered.max(1) as f64)
    }

    /// Bytes per second of all ring buffers.
    pub(super) fn all_bytes_per_second(&self) -> f64 {
        self.rings.iter().map(|&ring| self.bytes_per_second(ring)).sum()
    }

    /// Bytes per second of the ring buffer that fills first, in proportion to one of [`Rate::ring_bytes`].
    pub(super) fn busiest_bytes_per_second(&self) -> f64 {
        let scale = |ring: &RingUse| f64::from(self.ring_bytes) / f64::from(ring.bytes);
        let rates = self.rings.iter().map(|ring| self.bytes_per_second(*ring) * scale(ring));
        rates.fold(0.0, f64::max)
    }

    /// The size of a CPU's ring buffer, or of the one that all share, in bytes.
    pub(super) fn ring_bytes(&self) -> u64 {
        self.ring_bytes.into()
    }

    /// Whether each CPU has a ring buffer.
    pub(super) fn is_per_cpu(&self) -> bool {
        self.rings.len() > 1
    }

    /// How many records are lost if nobody reads while that many seconds of the measured rate are written.
    pub(super) fn lost_in(&self, seconds: f64) -> f64 {
        let beyond = |&ring: &RingUse| {
            (self.bytes_per_second(ring) * seconds - f64::from(ring.bytes)).max(0.0)
        };
        let written: u64 = self.rings.iter().map(|ring| ring.written).sum();
        let mean_record = written as f64 / self.delivered.max(1) as f64;
        self.rings.iter().map(beyond).sum::<f64>() / mean_record.max(1.0)
    }

    pub(super) fn to_json(&self) -> Value {
        let rounded = |rate: f64| (rate * 10.0).round() / 10.0;
        json!({
            "seconds": (self.seconds() * 1000.0).round() / 1000.0,
            "transitions_per_second": rounded(self.transitions_per_second()),
            "bytes_per_second": rounded(self.all_bytes_per_second()),
            "busiest_ring_bytes_per_second": rounded(self.busiest_bytes_per_second()),
        })
    }

    /// Adds the counts of the eBPF programs, which are indexed by kind of record.
    fn add_counts(&mut self, seen: &[u64; Kind::COUNT]) {
        for kind in Kind::ALL {
            let count = seen[kind as usize];
            self.seen += count;
            if kind.is_transition() {
                self.transitions += count;
            }
        }
    }
}

/// Measures the rate for `duration`.
///
/// # Errors
///
/// The counters of the eBPF programs cannot be read.
pub(super) async fn measure(kernel: &mut Kernel, duration: Duration) -> Result<Rate> {
    let mut rate = Rate { ring_bytes: kernel.ring_bytes(), ..Rate::default() };
    // What was written since the programs were attached does not count.
    drain(kernel);
    let (uses_before, seen_before) = (kernel.ring_uses(), kernel.counters()?.seen);
    let start = clock::monotonic_ns();
    let wanted = nanos(duration);
    loop {
        let is_over = clock::monotonic_ns() - start >= wanted;
        rate.delivered += drain(kernel);
        if is_over {
            break;
        }
        tokio::time::sleep(PAUSE.min(duration)).await;
    }
    let mut seen = kernel.counters()?.seen;
    rate.nanos = clock::monotonic_ns() - start;
    seen.iter_mut().zip(seen_before).for_each(|(seen, before)| *seen -= before);
    rate.add_counts(&seen);
    let grown = |(before, after): (RingUse, RingUse)| RingUse {
        written: after.written.wrapping_sub(before.written),
        ..after
    };
    rate.rings = uses_before.into_iter().zip(kernel.ring_uses()).map(grown).collect();
    Ok(rate)
}

/// Takes all records out of the ring buffers, and returns their number.
fn drain(kernel: &mut Kernel) -> u64 {
    let mut records = 0;
    while let Some(batch) = kernel.drain(BATCH_BYTES) {
        records += batch.records;
        if batch.bytes.len() < BATCH_BYTES {
            break;
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_transitions_count_as_transitions() {
        let rate = |kinds: &[Kind]| {
            let mut seen = [0; Kind::COUNT];
            kinds.iter().for_each(|&kind| seen[kind as usize] = 1000);
            let mut rate = Rate { nanos: 1_000_000_000, ..Rate::default() };
            rate.add_counts(&seen);
            (rate.seen, rate.transitions_per_second())
        };
        // A host on which older connections are accepted and TIME_WAIT sockets expire.
        assert_eq!(rate(&[Kind::Accepted, Kind::TimeWaitExit]), (2000, 0.0));
        assert_eq!(rate(&[Kind::TimeWaitEntry, Kind::FinWait2ToTimeWait]), (2000, 0.0));
        assert_eq!(rate(&[Kind::ResetReceived, Kind::ResetSent]), (2000, 0.0));
        let transitions = [Kind::Step, Kind::Opening, Kind::Established, Kind::Closing];
        assert_eq!(rate(&transitions), (4000, 4000.0));
        assert_eq!(rate(&Kind::ALL), (10000, 4000.0));
    }

    fn two_seconds(rings: [(u64, u32); 3]) -> Rate {
        let rings = rings.map(|(written, bytes)| RingUse { written, bytes }).into();
        let (nanos, ring_bytes) = (2_000_000_000, 4096);
        Rate { nanos, seen: 200, transitions: 190, delivered: 100, rings, ring_bytes }
    }

    #[test]
    fn lost_records_count() {
        let rate = two_seconds([(7200, 4096), (0, 4096), (0, 8192)]);
        assert_eq!((rate.transitions_per_second(), rate.all_bytes_per_second()), (95.0, 7200.0));
        assert_eq!(Rate::default().all_bytes_per_second(), 0.0);
    }

    #[test]
    fn the_ring_that_fills_first_decides() {
        let of = |rings| two_seconds(rings).busiest_bytes_per_second();
        assert_eq!(of([(1000, 4096), (3000, 4096), (500, 8192)]), 3000.0);
        // Twice as large as the others, whatever their size.
        assert_eq!(of([(1000, 4096), (3000, 4096), (8000, 8192)]), 4000.0);
    }

    #[test]
    fn every_ring_that_overflows_loses_records() {
        let rate = two_seconds([(5000, 4096), (5000, 4096), (0, 8192)]);
        assert_eq!(rate.lost_in(0.5), 0.0);
        // 100 bytes a record: 904 bytes too many in each.
        assert_eq!(rate.lost_in(1.0), 2.0 * 904.0 / 100.0);
    }
}
