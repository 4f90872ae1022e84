//! When a flight recorder begins a new file, and which file has to go. Pure.

use std::time::Duration;

use crate::trace::time::{Nanos, nanos};

const SECOND: Nanos = 1_000_000_000;

/// All that is kept is in about so many files: at most so much more than asked for is there.
const SLICES: u64 = 12;

/// A file is to cover at least this: each begins with all living connections.
const SHORTEST: Nanos = SECOND;

/// No file has to cover more, so that none is hard to handle.
const LONGEST: Nanos = 300 * SECOND;

/// A file that has this share of all bytes is over, however young it is.
const LARGEST_SHARE: u64 = 4;

/// Less than this holds next to nothing.
pub const LEAST_SIZE: u64 = 1 << 20;

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// At least so much time, if there is room.
    pub keep: Option<Duration>,
    /// At most so many bytes.
    pub max_size: Option<u64>,
}

/// Whether a file is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rotation {
    /// It is not.
    NotYet,
    /// At the next moment at which no record is on its way.
    Due,
    /// At once.
    Overdue,
}

impl Limits {
    /// Whether a file that covers `age` and has `size` bytes is over.
    pub(super) fn turn(&self, age: Nanos, size: u64) -> Rotation {
        let slice = self.keep.map(|keep| (nanos(keep) / SLICES).clamp(SHORTEST, LONGEST));
        let is_over = |limit: Option<u64>, value| limit.is_some_and(|limit| value >= limit);
        if is_over(slice.map(|slice| 2 * slice), age)
            || is_over(self.max_size.map(|most| most / LARGEST_SHARE), size)
        {
            Rotation::Overdue
        } else if is_over(slice, age)
            || age >= SHORTEST && is_over(self.max_size.map(|most| most / SLICES), size)
        {
            Rotation::Due
        } else {
            Rotation::NotYet
        }
    }

    /// Whether the oldest file has to go, where the one after it began at `next` and all together
    /// have `total` bytes.
    pub(super) fn oldest_goes(&self, next: Nanos, now: Nanos, total: u64) -> bool {
        self.keep.is_some_and(|keep| now.saturating_sub(next) >= nanos(keep))
            || self.max_size.is_some_and(|most| total > most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(seconds: u64) -> Limits {
        Limits { keep: Some(Duration::from_secs(seconds)), max_size: None }
    }

    fn size(bytes: u64) -> Limits {
        Limits { keep: None, max_size: Some(bytes) }
    }

    #[test]
    fn a_file_covers_a_twelfth_of_the_time() {
        let limits = keep(1200);
        assert_eq!(limits.turn(99 * SECOND, u64::MAX), Rotation::NotYet);
        assert_eq!(limits.turn(100 * SECOND, 0), Rotation::Due);
        assert_eq!(limits.turn(200 * SECOND, 0), Rotation::Overdue);
    }

    #[test]
    fn no_file_is_very_short_or_very_long() {
        assert_eq!(keep(2).turn(SECOND - 1, 0), Rotation::NotYet);
        assert_eq!(keep(2).turn(SECOND, 0), Rotation::Due);
        assert_eq!(keep(86_400).turn(300 * SECOND, 0), Rotation::Due);
        let for_ever = Limits { keep: Some(Duration::MAX), max_size: None };
        assert_eq!(for_ever.turn(299 * SECOND, 0), Rotation::NotYet);
    }

    #[test]
    fn a_file_has_a_twelfth_of_the_bytes() {
        let limits = size(1200);
        assert_eq!(limits.turn(u64::MAX, 99), Rotation::NotYet);
        assert_eq!(limits.turn(SECOND, 100), Rotation::Due);
        assert_eq!(limits.turn(0, 299), Rotation::NotYet, "it is young");
        assert_eq!(limits.turn(0, 300), Rotation::Overdue);
    }

    #[test]
    fn the_first_limit_that_is_reached_counts() {
        let limits = Limits { max_size: Some(1200), ..keep(1200) };
        assert_eq!(limits.turn(100 * SECOND, 0), Rotation::Due);
        assert_eq!(limits.turn(2 * SECOND, 100), Rotation::Due);
        assert_eq!(limits.turn(99 * SECOND, 99), Rotation::NotYet);
    }

    #[test]
    fn the_oldest_goes_when_newer_ones_cover_the_time() {
        let began = 1_000 * SECOND;
        assert!(!keep(60).oldest_goes(began, began + 59 * SECOND, u64::MAX));
        assert!(keep(60).oldest_goes(began, began + 60 * SECOND, 0));
        assert!(!keep(60).oldest_goes(began, 0, 0), "the clock was set back");
    }

    #[test]
    fn the_oldest_goes_when_all_are_too_large() {
        assert!(!size(1200).oldest_goes(0, u64::MAX, 1200));
        assert!(size(1200).oldest_goes(0, 0, 1201));
    }
}
