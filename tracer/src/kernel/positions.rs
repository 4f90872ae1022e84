//! The positions of a ring buffer: how much its producers have reserved, and how much its consumer
//! has taken.

use std::{
    io,
    os::fd::AsFd,
    sync::atomic::{AtomicUsize, Ordering},
};

use nix::unistd::{SysconfVar, sysconf};

use super::mapping::Mapping;

/// The two pages of a ring buffer that hold its positions: the consumer's and the producers'
/// (`kernel/bpf/ringbuf.c:struct bpf_ringbuf`). Positions count bytes and only grow.
pub(super) struct Positions {
    pages: Mapping,
    page: usize,
}

impl Positions {
    /// Maps the positions of a ring buffer.
    pub(super) fn map(ring: impl AsFd) -> io::Result<Self> {
        let page = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| usize::try_from(size).ok());
        let page = page.ok_or(io::ErrorKind::Unsupported)?;
        Ok(Self { pages: Mapping::new(ring, 2 * page, false)?, page })
    }

    /// The end of what programs have reserved. A record that they reserve later begins there.
    pub(super) fn reserved(&self) -> usize {
        // Pairs with the store-release in `kernel/bpf/ringbuf.c:__bpf_ringbuf_reserve`.
        self.position(self.page).load(Ordering::Acquire)
    }

    /// The end of what the consumer has taken. It stops at a record that is not submitted yet.
    pub(super) fn taken(&self) -> usize {
        self.position(0).load(Ordering::Acquire)
    }

    fn position(&self, offset: usize) -> &AtomicUsize {
        // SAFETY: each of the two mapped pages begins with an aligned position, which everyone
        // accesses atomically. The mapping lasts as long as `self`.
        unsafe { self.pages.at(offset).cast().as_ref() }
    }
}

/// A moment in the ring buffers: the end of what was reserved in each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark(Vec<usize>);

impl Mark {
    /// The moment at which so much was reserved in each of them.
    pub(super) fn new(reserved: impl Iterator<Item = usize>) -> Self {
        Self(reserved.collect())
    }

    /// Whether all that was reserved before has been submitted and taken.
    pub(super) fn is_passed(&self, taken: impl Iterator<Item = usize>) -> bool {
        // Positions wrap around where they have 32 bits.
        let has_passed =
            |(&mark, taken): (&usize, usize)| taken.wrapping_sub(mark) <= usize::MAX / 2;
        self.0.iter().zip(taken).all(has_passed)
    }

    /// A mark behind all that will ever be reserved in one ring buffer.
    #[cfg(test)]
    pub(crate) fn never_passed() -> Self {
        Self(vec![usize::MAX / 4])
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt};

    use super::*;

    /// Two pages in a file instead of a ring buffer.
    struct Fake {
        file: File,
        positions: Positions,
    }

    impl Fake {
        fn new() -> Self {
            let file = tempfile::tempfile().expect("a file");
            file.set_len(1 << 20).expect("its length");
            Self { positions: Positions::map(&file).expect("a mapping"), file }
        }

        fn at(reserved: usize, taken: usize) -> Self {
            let fake = Self::new();
            fake.reserve(reserved);
            fake.take(taken);
            fake
        }

        fn reserve(&self, position: usize) {
            let page = self.positions.page as u64;
            self.file.write_all_at(&position.to_ne_bytes(), page).expect("it is written");
        }

        fn take(&self, position: usize) {
            self.file.write_all_at(&position.to_ne_bytes(), 0).expect("it is written");
        }
    }

    fn mark(rings: &[Fake]) -> Mark {
        Mark::new(rings.iter().map(|fake| fake.positions.reserved()))
    }

    fn is_passed(mark: &Mark, rings: &[Fake]) -> bool {
        mark.is_passed(rings.iter().map(|fake| fake.positions.taken()))
    }

    #[test]
    fn a_mark_is_passed_when_all_that_was_reserved_before_is_taken() {
        let ring = [Fake::at(160, 64)];
        let mark = mark(&ring);
        assert!(!is_passed(&mark, &ring));
        // What is reserved later does not matter.
        ring[0].reserve(4096);
        ring[0].take(152);
        assert!(!is_passed(&mark, &ring));
        for taken in [160, 168, 4096] {
            ring[0].take(taken);
            assert!(is_passed(&mark, &ring));
        }
    }

    #[test]
    fn an_empty_ring_has_passed_its_mark() {
        let ring = [Fake::at(0, 0)];
        assert!(is_passed(&mark(&ring), &ring));
    }

    #[test]
    fn a_mark_is_passed_in_every_ring() {
        let rings = [Fake::at(80, 80), Fake::at(80, 40), Fake::at(0, 0)];
        let mark = mark(&rings);
        assert!(!is_passed(&mark, &rings));
        rings[1].take(80);
        assert!(is_passed(&mark, &rings));
    }

    #[test]
    fn positions_wrap_around() {
        let ring = [Fake::at(8, usize::MAX - 39)];
        let mark = mark(&ring);
        assert!(!is_passed(&mark, &ring));
        ring[0].take(8);
        assert!(is_passed(&mark, &ring));
    }
}
