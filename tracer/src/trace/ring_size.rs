//! Sizes of ring buffers.

use std::time::Duration;

use synfin_common::event;

/// Size of the ring buffer unless another is asked for: half a second at 220,000 transitions/s.
pub const DEFAULT_RING_BYTES: u32 = 16 << 20;

/// Size of the header of a record (`BPF_RINGBUF_HDR_SZ`).
const HEADER: u64 = 8;

/// The size of the largest record.
const LARGEST: usize = {
    let (opening, closing) = (size_of::<event::Opening>(), size_of::<event::Closing>());
    size_of::<event::AddressesV6>() + if opening > closing { opening } else { closing }
};

/// The largest ring buffer that synfin asks the kernel for.
const LARGEST_RING: u64 = 1 << 31;
/// The smallest ring buffer: one page.
const SMALLEST_RING: u64 = 4096;

/// The space that a record of `len` bytes takes in the ring buffer.
pub(crate) const fn room(len: usize) -> u64 {
    HEADER + (len as u64).next_multiple_of(8)
}

/// The size of a ring buffer that holds all records during a `stall` of the reader.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "floats saturate, and a rate is not negative"
)]
pub fn to_survive(stall: Duration, bytes_per_second: f64) -> u64 {
    ring_for((bytes_per_second * stall.as_secs_f64()).ceil() as u64)
}

/// The size of a ring buffer that would have held the `lost` records as well, even if one of `ring`
/// bytes lost all of them at once.
pub(crate) fn that_holds(ring: u32, lost: u64) -> u64 {
    ring_for(lost.saturating_mul(room(LARGEST)).saturating_add(ring.into()))
}

fn ring_for(bytes: u64) -> u64 {
    // One record more: the ring buffer can never be filled to its last byte.
    let bytes = bytes.saturating_add(room(LARGEST));
    bytes.checked_next_power_of_two().unwrap_or(LARGEST_RING).clamp(SMALLEST_RING, LARGEST_RING)
}

/// A size in the units of `--ring-size`, if it is a multiple of one.
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
    fn records_are_rounded_up_after_a_header() {
        assert_eq!([56, 57, 64].map(room), [64, 72, 72]);
    }

    #[test]
    fn a_stall_fits() {
        let stall = Duration::from_secs(2);
        assert_eq!(to_survive(stall, 0.0), 4096);
        assert_eq!(to_survive(stall, 220_000.0 * 72.0), 32 << 20);
        assert_eq!(to_survive(stall, f64::from(4 << 20)), 16 << 20, "never quite full");
        assert_eq!(to_survive(stall, f64::MAX), 2 << 30);
    }

    #[test]
    fn what_was_lost_would_have_fit() {
        assert_eq!(that_holds(4096, 1), 8192);
        assert_eq!(that_holds(16 << 20, 100_000), 32 << 20);
        assert_eq!(that_holds(1 << 31, u64::MAX), 1 << 31);
    }

    #[test]
    fn sizes_are_told_as_they_are_given() {
        assert_eq!(
            [4096, 16 << 20, 2 << 30, 5000, 0].map(bytes),
            ["4K", "16M", "2G", "5000 bytes", "0 bytes"]
        );
    }
}
