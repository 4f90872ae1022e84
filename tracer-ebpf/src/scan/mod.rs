//! BPF iterators: scans of all TCP sockets, of all open files and of all network namespaces. The
//! user side reads their records from the iterator's file descriptor.

mod namespaces;
mod open_files;
mod sockets;

use aya_ebpf::{bindings::seq_file, helpers::generated::bpf_seq_write};

/// The first member of `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    seq: *mut seq_file,
}

/// Appends a record to what the user side reads.
#[inline(always)]
fn write<T>(seq: *mut seq_file, record: &T) {
    // If the buffer is full, the record is dropped and the kernel calls the program for the same
    // item again once the user side has read the buffer (`kernel/bpf/bpf_iter.c:bpf_seq_read`).
    // SAFETY: `record` is readable for its size.
    unsafe { bpf_seq_write(seq, (&raw const *record).cast(), size_of::<T>() as u32) };
}
