//! Counts of passed, failed and skipped tests.

use std::{fmt, iter::Sum, ops::Add};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Summary {
    /// Parses a line like `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; …`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (_verdict, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
        let count = |name: &str| {
            let mut counts = counts.split("; ").filter_map(|count| count.split_once(' '));
            counts.find(|(_, what)| *what == name)?.0.parse().ok()
        };
        Some(Self {
            passed: count("passed")?,
            failed: count("failed")?,
            skipped: count("ignored")?,
        })
    }

    /// Counts these tests as skipped, which the test harness counted as passed.
    pub(crate) fn with_skipped(self, skipped: u64) -> Self {
        let passed = self.passed.saturating_sub(skipped);
        Self { passed, skipped: self.skipped + skipped, ..self }
    }
}

impl Add for Summary {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl Sum for Summary {
    fn sum<I: Iterator<Item = Self>>(summaries: I) -> Self {
        summaries.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(f, "total: {passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_harness_is_parsed_and_others_are_not() {
        let line =
            "test result: FAILED. 10 passed; 2 failed; 1 ignored; 0 measured; 7 filtered out";
        let summary = Summary::parse(line).unwrap();
        assert_eq!(summary, Summary { passed: 10, failed: 2, skipped: 1 });
        assert_eq!(summary.to_string(), "total: 10 passed, 2 failed, 1 skipped");
        assert_eq!(summary.with_skipped(3), Summary { passed: 7, failed: 2, skipped: 4 });
        for line in ["test result: ok", "a test result: ok. 1 passed; 0 failed; 0 ignored", ""] {
            assert_eq!(Summary::parse(line), None, "{line:?}");
        }
    }
}
