//! Merges the records of all rings in order of time.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
};

use bytes::BytesMut;
use synfin_common::event::Kind;

use super::cpu_rings::{CpuRings, RingPositions, RingRecord, time};

/// Initial capacity of a batch in bytes, so that it is seldom reallocated while it grows.
const ROOM: usize = 1 << 16;

/// A record from the ring buffer that all CPUs share.
pub(super) struct SharedRecord {
    /// When it comes, among records of other rings too.
    pub(super) order: Order,
    /// Where it began in the ring buffer.
    pub(super) position: usize,
    pub(super) record: Box<[u8]>,
}

/// The order of records: their time, and for those of one time what comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    time: u64,
    rank: Rank,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// What explains a transition.
    Evidence,
    /// A transition that the first program of the main hook has taken.
    Transition,
    /// One that another program has taken.
    Recovered,
}

impl SharedRecord {
    pub(super) fn new(record: &[u8], position: usize) -> Self {
        let kind = record.first().and_then(|&kind| Kind::from_number(kind));
        let is_transition = kind.is_some_and(Kind::is_transition);
        let rank = if is_transition { Rank::Recovered } else { Rank::Evidence };
        Self { order: Order { time: time(record), rank }, position, record: record.into() }
    }
}

/// How far the ring of a CPU is to be read.
pub(super) struct Unread {
    ring: usize,
    /// Where the next record is.
    next: u64,
    /// The end of what is known to be complete.
    written: u64,
    /// The end of what was begun.
    begun: u64,
}

/// What comes next from a ring.
enum Head<'a> {
    Record(RingRecord<'a>),
    /// Nothing that was begun in time.
    End,
    /// A record that a program is still writing.
    BeingWritten,
}

impl Unread {
    /// What every ring has now, without records that are being written if these are given up.
    pub(super) fn of(rings: &CpuRings, gives_up: bool) -> Vec<Self> {
        let unread = |(ring, positions): (usize, &RingPositions)| {
            // In this order: what is complete then was begun.
            let written = positions.written();
            let begun = if gives_up { written } else { positions.begun() };
            Self { ring, next: positions.taken(), written, begun }
        };
        rings.positions().enumerate().map(unread).collect()
    }

    fn head<'a>(&mut self, rings: &'a CpuRings) -> Head<'a> {
        if self.next >= self.begun {
            return Head::End;
        }
        if self.next >= self.written {
            self.written = rings.position(self.ring).written();
        }
        if self.next >= self.written {
            return Head::BeingWritten;
        }
        Head::Record(rings.record(self.ring, self.next))
    }
}

/// Moves records that are not later than `now` into a batch, in order of time, until it has `limit` bytes or
/// a program is still writing the next one. Returns their number.
///
/// `unread` was read after `now`, so it has all records that are not later, and so has `shared`, which is in
/// order of time.
pub(super) fn merge(
    rings: &CpuRings,
    mut unread: Vec<Unread>,
    shared: &mut Vec<SharedRecord>,
    now: u64,
    batch: &mut BytesMut,
    limit: usize,
) -> u64 {
    let order = |record: RingRecord| Order { time: record.time(), rank: Rank::Transition };
    let mut next = BinaryHeap::with_capacity(unread.len() + 1);
    let mut heads = Vec::with_capacity(unread.len());
    for unread in &mut unread {
        match unread.head(rings) {
            Head::Record(record) => {
                next.push(Reverse((order(record), heads.len())));
                heads.push(record);
            }
            Head::End => heads.push(RingRecord::NONE),
            Head::BeingWritten => return 0,
        }
    }
    let others = heads.len();
    next.extend(shared.first().map(|first| Reverse((first.order, others))));
    let (mut records, mut returned) = (0, 0);
    while batch.len() < limit
        && let Some(mut first) = next.peek_mut()
        && let Reverse((Order { time, .. }, source)) = *first
        && time <= now
    {
        records += 1;
        if source == others {
            append(batch, &shared[returned].record);
            returned += 1;
            match shared.get(returned) {
                Some(following) => *first = Reverse((following.order, source)),
                None => drop(PeekMut::pop(first)),
            }
            continue;
        }
        let (head, unread) = (&mut heads[source], &mut unread[source]);
        extend(batch, head.with_size());
        unread.next += head.distance();
        match unread.head(rings) {
            Head::Record(record) => {
                *first = Reverse((order(record), source));
                *head = record;
            }
            Head::End => drop(PeekMut::pop(first)),
            Head::BeingWritten => break,
        }
    }
    for (unread, positions) in unread.iter().zip(rings.positions()) {
        positions.take(unread.next);
    }
    shared.drain(..returned);
    records
}

/// Adds a record after its length.
#[expect(clippy::cast_possible_truncation, reason = "a record is smaller than the ring")]
pub(super) fn append(batch: &mut BytesMut, record: &[u8]) {
    extend(batch, &(record.len() as u32).to_le_bytes());
    extend(batch, record);
}

fn extend(batch: &mut BytesMut, bytes: &[u8]) {
    if batch.capacity() - batch.len() < bytes.len() {
        batch.reserve(ROOM);
    }
    batch.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};
    use synfin_common::cpu_ring::SEGMENT_BYTES;

    use super::{super::cpu_rings::fake::FakeRings, *};

    /// Segments of a ring.
    const SEGMENTS: u32 = 2;

    /// A record of this kind and time, followed by which one it is.
    fn record(kind: Kind, time: u64, number: usize) -> Vec<u8> {
        let words = [kind as u64, time, number as u64];
        // Records have several sizes.
        let padding = vec![0; 8 * (number % 28)];
        words.into_iter().flat_map(u64::to_ne_bytes).chain(padding).collect()
    }

    fn split(batch: &[u8]) -> Vec<Vec<u8>> {
        let mut rest = batch;
        let mut records = Vec::new();
        while let Some((size, tail)) = rest.split_first_chunk::<4>() {
            let (record, tail) = tail.split_at(u32::from_le_bytes(*size) as usize);
            records.push(record.to_vec());
            rest = tail;
        }
        records
    }

    #[test]
    fn at_the_same_time_evidence_comes_first_and_a_recovered_transition_last() {
        let fake = FakeRings::new(1, SEGMENTS);
        let transition = record(Kind::Step, 7, 0);
        let [evidence, recovered] = [Kind::ResetSent, Kind::Step].map(|kind| record(kind, 7, 1));
        assert!(fake.begin(0, &transition));
        fake.complete(0);
        let mut shared = Vec::from([&recovered, &evidence].map(|it| SharedRecord::new(it, 0)));
        shared.sort_by_key(|it| it.order);
        let (unread, mut batch) = (Unread::of(&fake.rings, false), BytesMut::new());
        assert_eq!(merge(&fake.rings, unread, &mut shared, 7, &mut batch, 1000), 3);
        assert_eq!(split(&batch), [evidence, transition, recovered]);
    }

    #[test]
    fn a_record_that_is_never_complete_can_be_given_up() {
        let fake = FakeRings::new(2, SEGMENTS);
        let records = [1, 2].map(|time| record(Kind::Step, time, 0));
        assert!(fake.begin(0, &records[0]) && fake.begin(1, &records[1]));
        fake.complete(1);
        let read = |gives_up| {
            let (unread, mut batch) = (Unread::of(&fake.rings, gives_up), BytesMut::new());
            merge(&fake.rings, unread, &mut Vec::new(), 9, &mut batch, 1000);
            split(&batch)
        };
        assert!(read(false).is_empty());
        assert_eq!(read(true), records[1..]);
    }

    proptest! {
        /// Programs write records on several CPUs and to the shared ring buffer while the reader merges
        /// them: it returns each once, in order of time, wherever segments and rings end.
        #[test]
        fn all_records_are_merged_in_order_of_time(
            steps in vec((any::<Index>(), 0..8_u8, 1..4_u64), 1..3_000),
            cpus in 1..9_usize,
            start in (1..9_u64, 0..500_u64),
            limit in 100..10_000_usize,
        ) {
            let fake = FakeRings::new(cpus, SEGMENTS);
            let (segments, words_before) = start;
            fake.start_at(segments * SEGMENT_BYTES as u64 - 8 * words_before);
            let (mut shared, mut written, mut returned) = (Vec::new(), Vec::new(), Vec::new());
            let mut batch = BytesMut::new();
            let mut now = 0;
            for (number, (source, step, later)) in steps.into_iter().enumerate() {
                now += later;
                let source = source.index(cpus + 1);
                let new = record(Kind::Step, now, number);
                match step {
                    0 => {
                        let unread = Unread::of(&fake.rings, false);
                        batch.clear();
                        let count = merge(&fake.rings, unread, &mut shared, now, &mut batch, limit);
                        let new = split(&batch);
                        prop_assert_eq!(new.len() as u64, count);
                        returned.extend(new);
                    }
                    _ if source == cpus => {
                        shared.push(SharedRecord::new(&new, 0));
                        written.push(new);
                    }
                    // Begun now and complete at a later step.
                    1 => {
                        if fake.begin(source, &new) {
                            written.push(new);
                        }
                    }
                    _ => {
                        fake.complete(source);
                        if fake.begin(source, &new) {
                            written.push(new);
                            fake.complete(source);
                        }
                    }
                }
            }
            (0..cpus).for_each(|cpu| fake.complete(cpu));
            loop {
                batch.clear();
                let unread = Unread::of(&fake.rings, false);
                if merge(&fake.rings, unread, &mut shared, now, &mut batch, limit) == 0 {
                    break;
                }
                returned.extend(split(&batch));
            }
            prop_assert_eq!(returned, written);
        }
    }
}
