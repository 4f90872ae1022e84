//! The rings of all CPUs, which have the records of the main hook's first program.

use std::{
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData},
    util::online_cpus,
};
use synfin_common::{
    config::Config,
    cpu_ring::{self, MARGIN_BYTES, Positions, SEGMENT_BYTES, Segment},
    event::{Accepted, Reset, Step, TimeWaitChange, TimeWaitEntry},
};

use super::mapping::Mapping;
use crate::trace::ring_size;

/// The distance between two segments.
const STRIDE: usize = size_of::<Segment>();

/// The header of a record: the size of the record, in the second half of a word.
const SIZE_AT: usize = 4;
const HEADER_BYTES: usize = 8;

/// Where every record has its time.
const TIME_AT: usize = 8;

const _: () = assert!(
    offset_of!(cpu_ring::Slot<u64>, size) == SIZE_AT
        && offset_of!(cpu_ring::Slot<u64>, record) == HEADER_BYTES
        && offset_of!(Step, time) == TIME_AT
        && offset_of!(Reset, time) == TIME_AT
        && offset_of!(TimeWaitEntry, time) == TIME_AT
        && offset_of!(TimeWaitChange, time) == TIME_AT
        && offset_of!(Accepted, time) == TIME_AT
);

/// The number of CPUs, counting those that are not online up to the last one that is.
pub(super) fn cpus() -> u32 {
    online_cpus().ok().and_then(|cpus| cpus.into_iter().max()).map_or(1, |last| last + 1)
}

/// The smallest default size of the ring buffer that all CPUs share, if most records go elsewhere: timers free
/// many TIME_WAITs at a time.
const LEAST_SHARED: u32 = 8 << 20;

/// The number and the sizes of the rings.
#[derive(Clone, Copy, Debug)]
pub struct RingLayout {
    /// The number of CPUs that have a ring; 0 if all records go through the ring buffer that they share.
    rings: u32,
    /// The size of a CPU's ring.
    bytes: u32,
    /// The size of the ring buffer that all CPUs share.
    shared_bytes: u32,
}

impl RingLayout {
    /// Rings for that many CPUs, of `bytes` each, or in all if they have to share one; `None`: the default.
    ///
    /// Only a ring whose program the kernel never runs twice at a time on a CPU (since 6.1) has one
    /// producer, and only x86-64 keeps the order of its stores.
    pub fn new(config: &Config, cpus: u32, bytes: Option<u32>) -> Self {
        if config.can_nest != 0 || cfg!(not(target_arch = "x86_64")) {
            let bytes = bytes.unwrap_or(ring_size::DEFAULT_SHARED);
            return Self { rings: 0, bytes, shared_bytes: bytes };
        }
        let least = if bytes.is_some() { 0 } else { LEAST_SHARED };
        let bytes = bytes.unwrap_or_else(|| ring_size::default_bytes(cpus));
        // At most a quarter of the records go there.
        let shared = bytes.saturating_mul(cpus.div_ceil(4)).max(least);
        let shared_bytes = shared.checked_next_power_of_two().unwrap_or(1 << 31);
        Self { rings: cpus, bytes, shared_bytes }
    }

    /// The size of a CPU's ring, or of the one that all share.
    pub(super) fn bytes(self) -> u32 {
        self.bytes
    }

    /// The size of the ring buffer that all CPUs share.
    pub(super) fn shared_bytes(self) -> u32 {
        self.shared_bytes
    }

    /// Tells it to the programs.
    pub fn configure(self, config: &mut Config) {
        config.wake_bytes = self.shared_bytes / 8;
        config.cpu_rings = self.rings;
        config.segments = self.segments();
        config.cpu_ring_bytes = self.bytes;
        config.cpu_wake_bytes = self.bytes / 8;
    }

    /// Sets the sizes of all maps with records.
    pub fn size_maps(self, loader: &mut EbpfLoader<'_>) {
        let [segments, positions] = self.elements();
        loader
            .map_max_entries("EVENTS", self.shared_bytes)
            .map_max_entries("SEGMENTS", segments)
            .map_max_entries("POSITIONS", positions);
    }

    /// The number of segments of a ring.
    fn segments(self) -> u32 {
        (self.bytes >> SEGMENT_BYTES.ilog2()).max(1)
    }

    /// The number of elements of the maps `SEGMENTS` and `POSITIONS`.
    fn elements(self) -> [u32; 2] {
        [self.rings * self.segments(), self.rings].map(|count| count.max(1))
    }
}

/// The rings, and how far they have been read.
pub(super) struct CpuRings {
    segments: Mapping,
    positions: Mapping,
    layout: RingLayout,
    /// Programs that are loaded later need the descriptors.
    _maps: Vec<MapData>,
}

impl CpuRings {
    pub(super) fn new(ebpf: &mut Ebpf, layout: RingLayout) -> Result<Option<Self>> {
        if layout.rings == 0 {
            return Ok(None);
        }
        let [segments, positions] = layout.elements().map(|count| count as usize);
        let mut map = |name| match ebpf.take_map(name) {
            Some(Map::Array(map)) => Ok(map),
            _ => bail!("the eBPF object has no array {name}"),
        };
        let maps = [map("SEGMENTS")?, map("POSITIONS")?];
        let share = |map: &MapData, bytes, writable| {
            Mapping::new(map.fd(), bytes, writable).context("cannot map the rings of the CPUs")
        };
        Ok(Some(Self {
            segments: share(&maps[0], segments * STRIDE, false)?,
            positions: share(&maps[1], positions * size_of::<Positions>(), true)?,
            layout,
            _maps: maps.into(),
        }))
    }

    /// The positions of all rings.
    pub(super) fn positions(&self) -> impl Iterator<Item = &RingPositions> {
        (0..self.layout.rings as usize).map(|ring| self.position(ring))
    }

    /// The positions of a ring.
    pub(super) fn position(&self, ring: usize) -> &RingPositions {
        let at = self.positions.at(ring * size_of::<Positions>());
        // SAFETY: the map has such positions, which everyone accesses atomically. The mapping lasts as
        // long as `self`.
        unsafe { at.cast().as_ref() }
    }

    /// The record at a position that has been written.
    pub(super) fn record(&self, ring: usize, position: u64) -> RingRecord<'_> {
        let (segments, position) = (self.layout.segments() as usize, word(position));
        let segment = ring * segments + ((position / SEGMENT_BYTES) & (segments - 1));
        let slot = self.segments.at(segment * STRIDE + position % SEGMENT_BYTES);
        // SAFETY: a record that has been written is in one piece at that position, begins with its size,
        // and stays until it is taken.
        unsafe {
            let size = slot.byte_add(SIZE_AT).cast::<u32>().read() as usize;
            assert!(size <= MARGIN_BYTES - HEADER_BYTES, "a record of {size} bytes");
            let bytes = slot.byte_add(SIZE_AT).cast::<u8>();
            RingRecord(std::slice::from_raw_parts(bytes.as_ptr(), HEADER_BYTES - SIZE_AT + size))
        }
    }
}

/// A position as a number of bytes in memory.
#[expect(clippy::cast_possible_truncation, reason = "only x86-64 has these rings")]
pub(super) const fn word(position: u64) -> usize {
    position as usize
}

/// [`Positions`], which both sides access.
#[repr(C)]
pub(super) struct RingPositions {
    begun: AtomicU64,
    written: AtomicU64,
    reserved: [u64; 6],
    taken: AtomicU64,
    reserved2: [u64; 7],
}

const _: () = assert!(
    offset_of!(RingPositions, written) == offset_of!(Positions, written)
        && offset_of!(RingPositions, taken) == offset_of!(Positions, taken)
        && size_of::<RingPositions>() == size_of::<Positions>()
);

impl RingPositions {
    /// The end of what the program has begun.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// The end of what is complete.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// The end of what has been taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Frees everything up to there.
    pub(super) fn take(&self, position: u64) {
        self.taken.store(position, Ordering::Release);
    }
}

/// A record in a ring, after its size as a little-endian `u32`, as in a
/// [batch](super::ring::Batch).
#[derive(Clone, Copy)]
pub(super) struct RingRecord<'a>(&'a [u8]);

impl<'a> RingRecord<'a> {
    /// No record.
    pub(super) const NONE: Self = Self(&[]);

    /// The record after its size.
    pub(super) fn with_size(self) -> &'a [u8] {
        self.0
    }

    /// The time of the record.
    pub(super) fn time(self) -> u64 {
        time(&self.0[HEADER_BYTES - SIZE_AT..])
    }

    /// How far the next record is.
    pub(super) fn distance(self) -> u64 {
        (self.0.len() + SIZE_AT) as u64
    }
}

/// The time of a record.
pub(super) fn time(record: &[u8]) -> u64 {
    let bytes = record.get(TIME_AT..TIME_AT + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_ne_bytes)
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "all values of tests are small")]
pub(super) mod fake {
    use std::{fs::File, os::unix::fs::FileExt};

    use super::*;

    /// Rings in files instead of maps, and what the programs do.
    pub(in super::super) struct FakeRings {
        pub(in super::super) rings: CpuRings,
        segments: File,
    }

    impl FakeRings {
        pub(in super::super) fn new(cpus: usize, segments: u32) -> Self {
            let bytes = segments * SEGMENT_BYTES as u32;
            let layout = RingLayout { rings: cpus as u32, bytes, shared_bytes: 0 };
            let [all, positions] = layout.elements().map(|count| count as usize);
            let file = |bytes: usize| {
                let file = tempfile::tempfile().expect("a file");
                file.set_len(bytes as u64).expect("its length");
                file
            };
            let sizes = [all * STRIDE, positions * size_of::<Positions>()];
            let [segments, positions] = sizes.map(file);
            let share = |file, bytes, writable| Mapping::new(file, bytes, writable).expect("it");
            let rings = CpuRings {
                segments: share(&segments, sizes[0], false),
                positions: share(&positions, sizes[1], true),
                layout,
                _maps: Vec::new(),
            };
            Self { rings, segments }
        }

        /// Lets all rings begin at this position.
        pub(in super::super) fn start_at(&self, position: u64) {
            for RingPositions { begun, written, taken, .. } in self.rings.positions() {
                for it in [begun, written, taken] {
                    it.store(position, Ordering::Release);
                }
            }
        }

        /// Begins a record, unless one is being written or there is no room.
        pub(in super::super) fn begin(&self, ring: usize, record: &[u8]) -> bool {
            let positions = self.rings.position(ring);
            let (position, size) = (positions.written(), (HEADER_BYTES + record.len()) as u64);
            let waiting = position - positions.taken();
            if positions.begun() != position || waiting + size > self.rings.layout.bytes.into() {
                return false;
            }
            positions.begun.store(position + size, Ordering::Release);
            let segments = self.rings.layout.segments() as usize;
            let segment = position as usize / SEGMENT_BYTES % segments;
            let at = (ring * segments + segment) * STRIDE + position as usize % SEGMENT_BYTES;
            let header = [0, record.len() as u32].map(u32::to_ne_bytes).concat();
            let bytes = [&header, record].concat();
            self.segments.write_all_at(&bytes, at as u64).expect("it is written");
            true
        }

        /// Completes the record that is being written.
        pub(in super::super) fn complete(&self, ring: usize) {
            let positions = self.rings.position(ring);
            positions.written.store(positions.begun(), Ordering::Release);
        }
    }
}
