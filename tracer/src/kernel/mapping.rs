//! Memory that is shared with the kernel.

use std::{ffi::c_void, io, num::NonZeroUsize, os::fd::AsFd, ptr::NonNull};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// The memory of a map, shared with the eBPF programs.
pub(super) struct Mapping {
    start: NonNull<c_void>,
    bytes: NonZeroUsize,
}

impl Mapping {
    /// Maps that many bytes from the start.
    pub(super) fn new(map: impl AsFd, bytes: usize, writable: bool) -> io::Result<Self> {
        let bytes = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        let read = ProtFlags::PROT_READ;
        let access = if writable { read | ProtFlags::PROT_WRITE } else { read };
        // SAFETY: a new mapping.
        let start = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Self { start, bytes })
    }

    /// A pointer to the byte at that offset, which must be mapped. It is valid as long as `self`.
    pub(super) fn at(&self, offset: usize) -> NonNull<c_void> {
        assert!(offset < self.bytes.get(), "byte {offset} of {}", self.bytes);
        // SAFETY: the offset is within the mapping.
        unsafe { self.start.byte_add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping, and no reference to it outlives `self`.
        let _ = unsafe { munmap(self.start, self.bytes.get()) };
    }
}
