//! What all iterators have in common: the head of their context, and where they write.

use aya_ebpf::{bindings::seq_file, helpers::generated::bpf_seq_write};

/// The head of `struct bpf_iter_meta`.
#[repr(C)]
pub struct Meta {
    pub seq: *mut seq_file,
}

/// Appends a record to what the reader reads.
#[inline(always)]
pub fn write<T>(seq: *mut seq_file, record: &T) {
    // When the buffer is full the kernel calls the program for this item again, after the reader
    // has made room.
    // SAFETY: `record` is readable for its size.
    unsafe { bpf_seq_write(seq, (&raw const *record).cast(), size_of::<T>() as u32) };
}
