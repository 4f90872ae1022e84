//! When a flight recorder begins a new file, and which files it deletes.

use std::time::Duration;

use crate::trace::time::{Nanos, nanos};

const SECOND: Nanos = 1_000_000_000;

/// Number of files over which the limits are spread, so that at most one of this many parts is kept
/// beyond the limits.
const SLICES: u64 = 12;

/// Least duration of a file, because each begins with all open connections.
const SHORTEST: Nanos = SECOND;

/// Maximum duration of a file, so that files stay manageable.
const LONGEST: Nanos = 300 * SECOND;

/// Share of all bytes at which a file ends, whatever its age.
const LARGEST_SHARE: u64 = 4;

/// Least limit on the size.
pub const LEAST_SIZE: u64 = 1 << 20;

/// What to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Least duration to keep, if the size allows it.
    pub keep: Option<Duration>,
    /// Maximum size in bytes.
    pub max_size: Option<u64>,
}

/// Whether a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rotation {
    /// It continues.
    NotYet,
    /// It ends once no record is in flight.
    Due,
    /// It ends now.
    Overdue,
}

impl Limits {
    /// Whether a file of this age and size in bytes ends.
    pub(super) fn rotation(&self, age: Nanos, size: u64) -> Rotation {
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

    /// Whether to delete the oldest file. `next` is the start of the file after it, `total` the size of
    /// all files.
    pub(super) fn deletes_oldest(&self, next: Nanos, now: Nanos, total: u64) -> bool {
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
        assert_eq!(limits.rotation(99 * SECOND, u64::MAX), Rotation::NotYet);
        assert_eq!(limits.rotation(100 * SECOND, 0), Rotation::Due);
        assert_eq!(limits.rotation(200 * SECOND, 0), Rotation::Overdue);
    }

    #[test]
    fn no_file_is_very_short_or_very_long() {
        assert_eq!(keep(2).rotation(SECOND - 1, 0), Rotation::NotYet);
        assert_eq!(keep(2).rotation(SECOND, 0), Rotation::Due);
        assert_eq!(keep(86_400).rotation(300 * SECOND, 0), Rotation::Due);
        let for_ever = Limits { keep: Some(Duration::MAX), max_size: None };
        assert_eq!(for_ever.rotation(299 * SECOND, 0), Rotation::NotYet);
    }

    #[test]
    fn a_file_has_a_twelfth_of_the_bytes() {
        let limits = size(1200);
        assert_eq!(limits.rotation(u64::MAX, 99), Rotation::NotYet);
        assert_eq!(limits.rotation(SECOND, 100), Rotation::Due);
        assert_eq!(limits.rotation(0, 299), Rotation::NotYet, "it is young");
        assert_eq!(limits.rotation(0, 300), Rotation::Overdue);
    }

    #[test]
    fn the_first_limit_that_is_reached_counts() {
        let limits = Limits { max_size: Some(1200), ..keep(1200) };
        assert_eq!(limits.rotation(100 * SECOND, 0), Rotation::Due);
        assert_eq!(limits.rotation(2 * SECOND, 100), Rotation::Due);
        assert_eq!(limits.rotation(99 * SECOND, 99), Rotation::NotYet);
    }

    #[test]
    fn the_oldest_is_deleted_when_newer_ones_cover_the_time() {
        let began = 1_000 * SECOND;
        assert!(!keep(60).deletes_oldest(began, began + 59 * SECOND, u64::MAX));
        assert!(keep(60).deletes_oldest(began, began + 60 * SECOND, 0));
        assert!(!keep(60).deletes_oldest(began, 0, 0), "the clock was set back");
    }

    #[test]
    fn the_oldest_is_deleted_when_all_are_too_large() {
        assert!(!size(1200).deletes_oldest(0, u64::MAX, 1200));
        assert!(size(1200).deletes_oldest(0, 0, 1201));
    }
}
