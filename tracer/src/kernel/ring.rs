//! Reads the ring buffer and the rings of the CPUs as bytes in order of time, without interpreting the
//! records.

use std::sync::atomic::{Ordering, fence};

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use bytes::{Bytes, BytesMut};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    cpu_rings::{CpuRings, RingLayout, word},
    merge::{self, SharedRecord, Unread},
    positions::{Mark, Positions},
};
use crate::host::clock;

/// How much programs have written to a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingUse {
    /// In bytes, headers included.
    pub written: u64,
    /// The size of the ring in bytes.
    pub bytes: u32,
}

/// Records taken from the rings.
pub struct Batch {
    /// The records in the format of [`crate::trace::recording::Frame::Events`].
    pub bytes: Bytes,
    /// Number of records.
    pub records: u64,
}

/// The consumer of the rings.
pub struct Ring {
    shared: Shared,
    cpus: Option<CpuRings>,
    layout: RingLayout,
    /// Whether records that are still being written are not waited for any more.
    gives_up: bool,
    /// Reused for each batch after the previous one has been dropped.
    room: BytesMut,
}

/// The ring buffer of all CPUs.
struct Shared {
    ring: AsyncFd<RingBuf<MapData>>,
    positions: Positions,
    /// Records taken from the ring buffer that are not returned yet, in order of time.
    taken: Vec<SharedRecord>,
}

impl Ring {
    /// Takes the maps of loaded programs, whose sizes that layout has set, in a runtime with I/O.
    ///
    /// # Errors
    ///
    /// A map is missing or cannot be mapped.
    pub fn new(ebpf: &mut Ebpf, layout: RingLayout) -> Result<Self> {
        let map = ebpf.take_map("EVENTS").context("the eBPF object has no map EVENTS")?;
        let ring: RingBuf<MapData> = map.try_into()?;
        let positions = Positions::map(&ring).context("cannot map the ring buffer's positions")?;
        let cpus = CpuRings::new(ebpf, layout)?;
        // SAFETY: the ring owns the map's descriptor for its whole lifetime.
        unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map(|ring| Shared { ring, positions, taken: Vec::new() })
            .map(|shared| Self { shared, cpus, layout, gives_up: false, room: BytesMut::new() })
            .context("cannot wait for the ring buffer")
    }

    /// Waits until a program finds that a ring fills.
    ///
    /// # Errors
    ///
    /// Polling fails.
    pub async fn filling(&mut self) -> Result<()> {
        self.shared.ring.readable().await?.clear_ready();
        Ok(())
    }

    /// The size of a CPU's ring, or of the one that all share.
    pub(super) fn bytes(&self) -> u32 {
        self.layout.bytes()
    }

    /// What has been written to each ring.
    pub(super) fn uses(&self) -> Vec<RingUse> {
        let bytes = self.bytes();
        let cpus = self.cpus.iter().flat_map(CpuRings::positions);
        let cpus = cpus.map(|positions| RingUse { written: positions.written(), bytes });
        let written = self.shared.positions.reserved() as u64;
        cpus.chain([RingUse { written, bytes: self.layout.shared_bytes() }]).collect()
    }

    /// Returns all complete records from now on, even if earlier ones are not complete.
    pub(super) fn give_up_incomplete(&mut self) {
        self.gives_up = true;
    }

    /// A mark behind everything that has been reserved or begun.
    pub(super) fn mark(&self) -> Mark {
        let cpus = self.cpus.iter().flat_map(CpuRings::positions);
        let cpus = cpus.map(|positions| word(positions.begun()));
        Mark::new(std::iter::once(self.shared.positions.reserved()).chain(cpus))
    }

    /// Whether everything before the mark has been returned.
    pub(super) fn has_passed(&self, mark: &Mark) -> bool {
        let cpus = self.cpus.iter().flat_map(CpuRings::positions);
        let cpus = cpus.map(|positions| word(positions.taken()));
        mark.is_passed(std::iter::once(self.shared.returned()).chain(cpus))
    }

    /// Takes records, each after its length as a little-endian `u32`, about `limit` bytes at most.
    pub fn drain(&mut self, limit: usize) -> Option<Batch> {
        let records = if self.cpus.is_some() { self.merge(limit) } else { self.copy(limit) };
        (records > 0).then(|| Batch { bytes: self.room.split().freeze(), records })
    }

    /// Takes records from the ring buffer alone.
    fn copy(&mut self, limit: usize) -> u64 {
        let mut records = 0;
        while self.room.len() < limit {
            let Some(record) = self.shared.ring.get_mut().next() else { break };
            merge::append(&mut self.room, &record);
            records += 1;
        }
        records
    }

    /// Takes records in order of time. It takes none that is later than now, as earlier ones of other CPUs
    /// may be missing, and ends before a record that a program is still writing.
    fn merge(&mut self, limit: usize) -> u64 {
        let Some(cpus) = &self.cpus else { return 0 };
        let now = clock::monotonic_ns();
        // All records that are not later have been begun or reserved by then.
        fence(Ordering::SeqCst);
        let unread = Unread::of(cpus, self.gives_up);
        if !self.shared.take_complete() && !self.gives_up {
            return 0;
        }
        merge::merge(cpus, unread, &mut self.shared.taken, now, &mut self.room, limit)
    }
}

impl Shared {
    /// Takes the records that have been reserved by now. Returns whether all of them are complete.
    fn take_complete(&mut self) -> bool {
        let Self { ring, positions, taken } = self;
        let reserved = positions.reserved();
        loop {
            let position = positions.taken();
            if !is_before(position, reserved) {
                break;
            }
            let Some(record) = ring.get_mut().next() else { break };
            taken.push(SharedRecord::new(&record, position));
        }
        // Programs interrupt each other, so the records are not in this order.
        taken.sort_by_key(|taken| taken.order);
        !is_before(positions.taken(), reserved)
    }

    /// The end of the records that have been returned.
    fn returned(&self) -> usize {
        let first = self.taken.iter().map(|taken| taken.position).min();
        first.unwrap_or_else(|| self.positions.taken())
    }
}

/// Whether a position comes before another. They wrap around where they have 32 bits.
fn is_before(position: usize, other: usize) -> bool {
    other.wrapping_sub(position).wrapping_sub(1) < usize::MAX / 2
}
