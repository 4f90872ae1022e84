//! The rate at which this host currently writes records to the ring buffer.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use synfin_common::event::Kind;

use crate::{
    host::clock,
    kernel::{Batch, Kernel},
    trace::{ring_size, time::nanos, wire},
};

/// Time between two drains of the ring buffer.
const PAUSE: Duration = Duration::from_millis(20);
const BATCH_BYTES: usize = 1 << 20;

/// Counts of a measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    nanos: u64,
    /// Number of records that the hooks tried to write.
    seen: u64,
    /// Number of these that are state transitions.
    transitions: u64,
    delivered: u64,
    /// Bytes that the delivered records occupied in the ring buffer.
    room: u64,
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

    /// Bytes of the ring buffer per second, including headers and alignment. Lost records are
    /// assumed to have the mean size of delivered ones.
    pub(super) fn bytes_per_second(&self) -> f64 {
        let mean = self.room as f64 / self.delivered.max(1) as f64;
        self.per_second(mean * self.seen as f64)
    }

    pub(super) fn to_json(self) -> Value {
        let rounded = |rate: f64| (rate * 10.0).round() / 10.0;
        json!({
            "seconds": (self.seconds() * 1000.0).round() / 1000.0,
            "transitions_per_second": rounded(self.transitions_per_second()),
            "bytes_per_second": rounded(self.bytes_per_second()),
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

    fn take(&mut self, batch: &Batch) {
        self.delivered += batch.records;
        self.room += room(&batch.bytes);
    }
}

/// Bytes that the records of a batch occupied in the ring buffer.
fn room(batch: &[u8]) -> u64 {
    wire::records(batch).flatten().map(|record| ring_size::space_of_record(record.len())).sum()
}

/// Measures the rate for `duration`.
///
/// # Errors
///
/// The counters of the eBPF programs cannot be read.
pub(super) async fn measure(kernel: &mut Kernel, duration: Duration) -> Result<Rate> {
    let mut rate = Rate::default();
    let start = clock::monotonic_ns();
    let wanted = nanos(duration);
    loop {
        let is_over = clock::monotonic_ns() - start >= wanted;
        while let Some(batch) = kernel.drain(BATCH_BYTES) {
            rate.take(&batch);
            if batch.bytes.len() < BATCH_BYTES {
                break;
            }
        }
        if is_over {
            break;
        }
        tokio::time::sleep(PAUSE.min(duration)).await;
    }
    let counters = kernel.counters()?;
    rate.nanos = clock::monotonic_ns() - start;
    rate.add_counts(&counters.seen);
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_includes_every_record() {
        let mut batch = Vec::new();
        for len in [56, 57] {
            wire::append(&mut batch, &vec![0; len]);
        }
        assert_eq!(room(&batch), 64 + 72);
        assert_eq!(room(&[]), 0);
    }

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

    #[test]
    fn lost_records_count() {
        let rate =
            Rate { nanos: 2_000_000_000, seen: 200, transitions: 190, delivered: 100, room: 7200 };
        assert_eq!((rate.transitions_per_second(), rate.bytes_per_second()), (95.0, 7200.0));
        assert_eq!(Rate::default().bytes_per_second(), 0.0);
    }
}
