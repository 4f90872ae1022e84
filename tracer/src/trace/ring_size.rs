//! Sizes of the ring buffers of the CPUs: the default, sizes that prevent losses, and their text form.

use std::time::Duration;

use super::wire;

/// Default size of a ring buffer that all CPUs share. It holds half a second of records at 220,000
/// transitions/s.
pub const DEFAULT_SHARED: u32 = 16 << 20;

/// Default size of the ring buffer of each of so many CPUs.
pub fn default_bytes(cpus: u32) -> u32 {
    let each = ((64 << 20) / cpus.max(1)).clamp(1 << 20, 8 << 20);
    1 << each.ilog2()
}

/// Size of the header of a record (`BPF_RINGBUF_HDR_SZ`).
const HEADER: u64 = 8;

/// The size of the largest record.
const LARGEST_RECORD: usize = {
    let (opening, closing) = (size_of::<wire::Opening>(), size_of::<wire::Closing>());
    size_of::<wire::AddressesV6>() + if opening > closing { opening } else { closing }
};

/// The largest ring buffer that synfin requests from the kernel.
const LARGEST_RING: u64 = 1 << 31;
/// The smallest ring buffer: one page.
const SMALLEST_RING: u64 = 4096;

/// The space that a record of `len` bytes takes in the ring buffer, in bytes.
pub(crate) const fn space_of_record(len: usize) -> u64 {
    HEADER + (len as u64).next_multiple_of(8)
}

/// The size of a ring buffer that holds all records of the time in which the reader stalls.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "floats saturate, and a rate is not negative"
)]
pub fn for_stall(stall: Duration, bytes_per_second: f64) -> u64 {
    size_for((bytes_per_second * stall.as_secs_f64()).ceil() as u64)
}

/// The size of ring buffers that would have lost nothing where some of `ring` bytes have lost `lost`
/// records, even if these came on one CPU in a single burst.
pub(crate) fn for_lost_records(ring: u32, lost: u64) -> u64 {
    size_for(lost.saturating_mul(space_of_record(LARGEST_RECORD)).saturating_add(ring.into()))
}

fn size_for(bytes: u64) -> u64 {
    // Room for one more record: the kernel never fills the ring buffer to its last byte.
    let bytes = bytes.saturating_add(space_of_record(LARGEST_RECORD));
    bytes.checked_next_power_of_two().unwrap_or(LARGEST_RING).clamp(SMALLEST_RING, LARGEST_RING)
}

/// A size in the largest unit of `--ring-size` that divides it, otherwise in bytes.
pub(crate) fn bytes(bytes: u64) -> String {
    [(30, "G"), (20, "M"), (10, "K")]
        .into_iter()
        .find(|(shift, _)| bytes >= 1 << shift && bytes.trailing_zeros() >= *shift)
        .map_or_else(
            || format!("{bytes} bytes"),
            |(shift, unit)| format!("{}{unit}", bytes >> shift),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_share_the_default() {
        let mebibytes = [0, 1, 2, 8, 9, 16, 48, 64, 1024].map(|cpus| default_bytes(cpus) >> 20);
        assert_eq!(mebibytes, [8, 8, 8, 8, 4, 4, 1, 1, 1]);
    }

    #[test]
    fn records_have_a_header_and_are_aligned() {
        assert_eq!([56, 57, 64].map(space_of_record), [64, 72, 72]);
    }

    #[test]
    fn ring_holds_records_of_a_stall() {
        let stall = Duration::from_secs(2);
        assert_eq!(for_stall(stall, 0.0), 4096);
        assert_eq!(for_stall(stall, 220_000.0 * 72.0), 32 << 20);
        assert_eq!(for_stall(stall, f64::from(4 << 20)), 16 << 20, "never quite full");
        assert_eq!(for_stall(stall, f64::MAX), 2 << 30);
    }

    #[test]
    fn ring_would_have_held_lost_records() {
        assert_eq!(for_lost_records(4096, 1), 8192);
        assert_eq!(for_lost_records(16 << 20, 100_000), 32 << 20);
        assert_eq!(for_lost_records(1 << 31, u64::MAX), 1 << 31);
    }

    #[test]
    fn sizes_are_formatted_like_the_option() {
        assert_eq!(
            [4096, 16 << 20, 2 << 30, 5000, 0].map(bytes),
            ["4K", "16M", "2G", "5000 bytes", "0 bytes"]
        );
    }
}
