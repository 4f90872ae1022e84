//! The ring buffer: bytes out of the kernel, unread.

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{Interest, unix::AsyncFd};

/// Records taken from the ring.
pub struct Batch {
    /// In the form of [`crate::recording::Frame::Events`].
    pub bytes: Bytes,
    /// How many they are.
    pub records: u64,
}

/// The reading end.
pub(super) struct Ring(AsyncFd<RingBuf<MapData>>);

impl Ring {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self> {
        let map = ebpf.take_map("EVENTS").context("the eBPF object has no map EVENTS")?;
        let ring: RingBuf<MapData> = map.try_into()?;
        // SAFETY: the ring owns the map's descriptor and keeps it for as long as it lives.
        unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map(Self)
            .context("cannot wait for the ring buffer")
    }

    pub(super) async fn filling(&mut self) -> Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }

    /// Each record comes after its length, a little-endian `u32`.
    pub(super) fn drain(&mut self, limit: usize) -> Option<Batch> {
        let ring = self.0.get_mut();
        let mut bytes = BytesMut::new();
        let mut records = 0;
        while bytes.len() < limit {
            let Some(record) = ring.next() else { break };
            if records == 0 {
                bytes.reserve(4096);
            }
            bytes.put_u32_le(record.len() as u32);
            bytes.extend_from_slice(&record);
            records += 1;
        }
        (records > 0).then(|| Batch { bytes: bytes.freeze(), records })
    }
}
