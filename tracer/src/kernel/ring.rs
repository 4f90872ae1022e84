//! Reads the ring buffer as bytes, without interpreting the records.

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{Interest, unix::AsyncFd};

use super::positions::Positions;

/// Records taken from the ring buffer.
pub struct Batch {
    /// The records in the format of [`crate::trace::recording::Frame::Events`].
    pub bytes: Bytes,
    /// Number of records.
    pub records: u64,
}

/// Initial capacity of a batch in bytes, so that it is seldom reallocated while it grows.
const ROOM: usize = 1 << 16;

/// The consumer of the ring buffer.
pub(super) struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
    pub(super) positions: Positions,
    /// Reused for each batch after the previous one has been dropped.
    room: BytesMut,
}

impl Ring {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self> {
        let map = ebpf.take_map("EVENTS").context("the eBPF object has no map EVENTS")?;
        let ring: RingBuf<MapData> = map.try_into()?;
        let positions = Positions::map(&ring).context("cannot map the ring buffer's positions")?;
        // SAFETY: the ring owns the map's descriptor for its whole lifetime.
        unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map(|ring| Self { ring, positions, room: BytesMut::new() })
            .context("cannot wait for the ring buffer")
    }

    pub(super) async fn filling(&mut self) -> Result<()> {
        self.ring.readable().await?.clear_ready();
        Ok(())
    }

    /// Takes records, each after its length as a little-endian `u32`.
    #[expect(clippy::cast_possible_truncation, reason = "a record is smaller than the ring")]
    pub(super) fn drain(&mut self, limit: usize) -> Option<Batch> {
        let Self { ring, room, .. } = self;
        let ring = ring.get_mut();
        let mut records = 0;
        while room.len() < limit {
            let Some(record) = ring.next() else { break };
            if records == 0 {
                room.reserve(ROOM);
            }
            room.put_u32_le(record.len() as u32);
            room.extend_from_slice(&record);
            records += 1;
        }
        (records > 0).then(|| Batch { bytes: room.split().freeze(), records })
    }
}
